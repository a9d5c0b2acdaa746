"""How the documents of a release hang together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.chart.helm import Document
from tests.chart.pod_security import containers

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
Labels = Mapping[str, str]


class Pods(NamedTuple):
    """What makes pods, and the template of them."""

    owner: str
    template: Mapping[str, Any]

    @property
    def labels(self) -> Labels:
        """Of each pod."""
        found: Labels = self.template["metadata"].get("labels", {})
        return found

    @property
    def ports(self) -> dict[str, int]:
        """Of all containers, by name."""
        named = (port for one in containers(self.template["spec"]) for port in one.get("ports") or ())
        return {port["name"]: port["containerPort"] for port in named}


def pods(documents: Sequence[Document]) -> list[Pods]:
    """All that a release runs: its workloads, and its tests."""
    found = []
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if kind in WORKLOADS:
            found.append(Pods(f"{kind} {name}", document["spec"]["template"]))
        elif kind == "Pod":
            found.append(Pods(f"{kind} {name}", document))
        elif kind == "CronJob":
            found.append(Pods(f"{kind} {name}", document["spec"]["jobTemplate"]["spec"]["template"]))
    return found


def chosen(selector: Labels, labels: Labels) -> bool:
    """Whether a selector by labels takes it."""
    return selector.items() <= labels.items()


def of_kind(documents: Sequence[Document], *kinds: str) -> Iterator[Document]:
    """The documents of these kinds."""
    return (document for document in documents if document["kind"] in kinds)


class Selector(NamedTuple):
    """Who chooses, and the labels of pods that it asks for."""

    owner: str
    labels: Labels


def selectors_of_pods(documents: Sequence[Document]) -> Iterator[Selector]:
    """Of all kinds that choose the server's pods."""
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        owner = f"{kind} {document['metadata']['name']}"
        if kind == "Service":
            yield Selector(owner, spec["selector"])
        elif kind in ("PodDisruptionBudget", "Deployment", "PodMonitor"):
            yield Selector(owner, spec["selector"]["matchLabels"])
        elif kind == "NetworkPolicy" and "loadtest" not in owner:
            yield Selector(owner, spec["podSelector"]["matchLabels"])
        if kind == "Deployment":
            for one in spec["template"]["spec"].get("topologySpreadConstraints") or ():
                yield Selector(f"{owner}, spread", one["labelSelector"]["matchLabels"])


def backends(documents: Sequence[Document]) -> Iterator[tuple[str, str, object]]:
    """Of routes from outside: (who, Service, port by name or number)."""
    for document in of_kind(documents, "Ingress"):
        for rule in document["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                yield "Ingress", service["name"], service["port"].get("name", service["port"].get("number"))
    for document in of_kind(documents, "HTTPRoute"):
        for rule in document["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield "HTTPRoute", backend["name"], backend["port"]


_METRIC = re.compile(r"\bembedserve_[a-z0-9_]+")


def metrics_named(value: object) -> set[str]:
    """Every word in a document that looks like a metric of the server's."""
    if isinstance(value, str):
        return set(_METRIC.findall(value))
    if isinstance(value, Mapping):
        return {name for each in value.values() for name in metrics_named(each)}
    if isinstance(value, Sequence):
        return {name for each in value for name in metrics_named(each)}
    return set()
