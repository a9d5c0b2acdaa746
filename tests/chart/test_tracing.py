"""Traces from the chart: OpenTelemetry's own variables, and a way out to the collector."""

from __future__ import annotations

from typing import Any

import pytest

from service.telemetry.variables import sending
from tests.chart.helm import HELMS, NAMESPACE, Document, Helm, Refused, Rendering, Values

pytestmark = pytest.mark.heavy

ENDPOINT = {"endpoint": "http://collector.observability:4318"}
POD_NAME = "OTEL_RESOURCE_ATTRIBUTES_POD_NAME"
TEAM = "team=search%20%26%20find"


def rendered(helm: Helm, tracing: Values) -> dict[str, Document]:
    """By their kinds."""
    return {one["kind"]: one for one in helm.documents(Rendering(values={"tracing": tracing}))}


def variables(documents: dict[str, Document]) -> dict[str, Any]:
    (container,) = documents["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert len({one["name"] for one in container["env"]}) == len(container["env"])
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def ports_out(documents: dict[str, Document]) -> list[int]:
    return [port["port"] for rule in documents["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]]


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_without_an_endpoint_there_is_nothing_of_it(helm: Helm) -> None:
    assert not [name for name in variables(rendered(helm, {})) if name.startswith("OTEL_")]


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_all_of_it(helm: Helm) -> None:
    more = {"share": 0.25, "serviceName": "vectors", "resourceAttributes": {"team": "search & find"}}
    documents = rendered(helm, {**ENDPOINT, **more, "headers": {"existingSecret": "collector", "key": "k"}})
    found = variables(documents)
    assert {name: value for name, value in found.items() if name.startswith("OTEL_")} == {
        "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT["endpoint"],
        "OTEL_EXPORTER_OTLP_HEADERS": {"secretKeyRef": {"name": "collector", "key": "k"}},
        "OTEL_RESOURCE_ATTRIBUTES": f"k8s.namespace.name={NAMESPACE},k8s.pod.name=$({POD_NAME}),{TEAM}",
        POD_NAME: {"fieldRef": {"fieldPath": "metadata.name"}},
        "OTEL_SERVICE_NAME": "vectors",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "0.25",
    }
    assert sending({name: value for name, value in found.items() if isinstance(value, str)})
    assert 4318 in ports_out(documents)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_the_name_of_the_pod_is_known_before_it_is_used(helm: Helm) -> None:
    more = [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    rendering = Rendering(values={"tracing": ENDPOINT, "extraEnv": more})
    found = variables({one["kind"]: one for one in helm.documents(rendering)})
    attributes = found["OTEL_RESOURCE_ATTRIBUTES"]
    earlier = list(found)[: list(found).index("OTEL_RESOURCE_ATTRIBUTES")]
    assert attributes.partition("$(")[2].partition(")")[0] in earlier  # the kubelet knows no others yet


@pytest.mark.parametrize(("endpoint", "port"), [("https://traces.example", 443), ("http://traces.example/otlp", 80)])
def test_the_port_is_the_urls(endpoint: str, port: int) -> None:
    assert port in ports_out(rendered(HELMS[0], {"endpoint": endpoint, "headers": {}}))


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize(
    ("tracing", "words"),
    [
        ({"endpoint": "collector:4318"}, "endpoint"),
        ({**ENDPOINT, "sampler": "sometimes"}, "sampler"),
        ({**ENDPOINT, "share": 1.5}, "share"),
        ({**ENDPOINT, "ratio": 1}, "ratio"),
        ({**ENDPOINT, "resourceAttributes": {"a,b": "c"}}, "resourceAttributes"),
        ({"headers": {"existingSecret": "collector"}}, "tracing.endpoint"),
    ],
    ids=str,
)
def test_refused(helm: Helm, tracing: Values, words: str) -> None:
    with pytest.raises(Refused) as refusal:
        helm.render(Rendering(values={"tracing": tracing}))
    assert words in str(refusal.value)
