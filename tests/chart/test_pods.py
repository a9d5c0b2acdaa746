"""What the documents say of each other, and of the server that they start."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

import service
from service import metrics
from service.api import health
from service.app import operations
from service.cli import command_line
from service.settings import ENV_PREFIX, Settings, load_settings, unknown_variables
from tests.chart.helm import Document, only, render
from tests.chart.matrix import Cell, oldest_and_newest
from tests.chart.pod_security import containers, violations
from tests.chart.wiring import backends, chosen, metrics_named, of_kind, pods, selectors_of_pods

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

Rendered = dict[Cell, list[Document]]
ADAPTER = Path(__file__).parents[2] / "deploy" / "prometheus" / "adapter-rules.yaml"
SERVER = "embedserve"
STANDARD_LABELS = {
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "version", "part-of", "managed-by")
}


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return oldest_and_newest()


def server_of(documents: list[Document]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The Deployment's pod, and the server's container in it."""
    spec = only(documents, "Deployment")["spec"]["template"]["spec"]
    (server,) = (one for one in spec["containers"] if one["name"] == SERVER)
    return spec, server


def variables(container: Mapping[str, Any]) -> dict[str, str]:
    """Those that are said, without those from Secrets."""
    return {one["name"]: one["value"] for one in container.get("env") or () if "value" in one}


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Document]], Settings]:
    """told(documents): the settings that the real server reads out of the rendered file and variables."""

    def load(documents: list[Document]) -> Settings:
        _, server = server_of(documents)
        for name, value in variables(server).items():
            monkeypatch.setenv(name, value)
        config = Path(variables(server)[f"{ENV_PREFIX}CONFIG"])
        (file,) = only(documents, "ConfigMap", only(documents, "Deployment")["metadata"]["name"])["data"].items()
        assert file[0] == config.name
        (tmp_path / config.name).write_text(file[1])
        monkeypatch.setenv(f"{ENV_PREFIX}CONFIG", str(tmp_path / config.name))
        assert unknown_variables() == []
        return load_settings()

    return load


def test_pods_keep_the_restricted_standard(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        for one in pods(documents):
            assert violations(one.template, cell.minor) == [], f"{cell}: {one.owner}"


def test_no_pod_has_a_token_or_a_root_it_could_write_to(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        for one in pods(documents):
            spec = one.template["spec"]
            assert spec["automountServiceAccountToken"] is False, f"{cell}: {one.owner}"
            for container in containers(spec):
                assert container["securityContext"]["readOnlyRootFilesystem"] is True, f"{cell}: {container['name']}"
                assert set(container["resources"]["requests"]) >= {"cpu", "memory"}, f"{cell}: {container['name']}"
                assert "memory" in container["resources"]["limits"], f"{cell}: {container['name']}"


def test_the_server_reads_the_settings_that_are_rendered(
    rendered: Rendered, told: Callable[[list[Document]], Settings]
) -> None:
    for cell, documents in rendered.items():
        settings = told(documents)
        assert operations(settings), cell  # which refuses routes that are its own
        spec, server = server_of(documents)
        ports = {port["name"]: port["containerPort"] for port in server["ports"]}
        assert (settings.host, settings.port, settings.admin_port) == ("0.0.0.0", ports["http"], ports["admin"]), cell
        assert mounts(spec, server)[str(settings.cache_dir)] in ("emptyDir", "persistentVolumeClaim"), cell


def test_a_drain_ends_before_the_pod_is_killed(rendered: Rendered, told: Callable[[list[Document]], Settings]) -> None:
    for cell, documents in rendered.items():
        settings = told(documents)
        spec, server = server_of(documents)
        hook = server.get("lifecycle", {}).get("preStop", {})
        waits = hook.get("sleep", {}).get("seconds", 0) or float((hook.get("exec", {}).get("command") or [0])[-1])
        assert spec["terminationGracePeriodSeconds"] > waits + settings.drain_grace + settings.drain_timeout, cell
        assert settings.drain_timeout >= settings.request_timeout, cell
        # Who has just been told that the pod is ready may send for as long as it takes to see that it no longer is.
        probe = server["readinessProbe"]
        assert settings.drain_grace >= probe["periodSeconds"], cell


def test_a_sleep_of_ones_own_counts_against_the_grace_period() -> None:
    plain, sleeping = (
        only(render(values), "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        for values in ({}, {"lifecycle": {"preStop": {"sleep": {"seconds": 60}}}})
    )
    assert sleeping == plain + 60


def test_probes_ask_routes_that_the_server_has(rendered: Rendered) -> None:
    routes = {path: operation.handler for operation in health.OPERATIONS for path in operation.paths}
    for cell, documents in rendered.items():
        _, server = server_of(documents)
        asked = {kind: server[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
        assert {kind: routes[probe["path"]] for kind, probe in asked.items()} == {
            "startup": health.ready,
            "readiness": health.ready,
            "liveness": health.live,
        }, cell
        assert {probe["port"] for probe in asked.values()} == {"admin"}, cell
        secure = "tls_certificate" in str(only_config(documents))
        assert {probe["scheme"] for probe in asked.values()} == {"HTTPS" if secure else "HTTP"}, cell


def only_config(documents: list[Document]) -> str:
    """The settings file."""
    found: str = only(documents, "ConfigMap", only(documents, "Deployment")["metadata"]["name"])["data"][
        "embedserve.toml"
    ]
    return found


def test_commands_are_those_of_the_server(rendered: Rendered) -> None:
    for documents in rendered.values():
        for one in pods(documents):
            image = server_of(documents)[1]["image"]
            for container in containers(one.template["spec"]):
                if container["image"] == image and "command" not in container:
                    assert callable(command_line().parse_args(container["args"]).run)


def test_selectors_choose_the_servers_pods_and_no_others(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        every = pods(documents)
        for selector in selectors_of_pods(documents):
            taken = [one.owner for one in every if chosen(selector.labels, one.labels)]
            assert taken == [f"Deployment {only(documents, 'Deployment')['metadata']['name']}"], (cell, selector)


def test_no_value_changes_what_a_deployment_can_never_change(rendered: Rendered) -> None:
    found = {str(only(documents, "Deployment")["spec"]["selector"]) for documents in rendered.values()}
    assert len(found) == 1
    named = render({"podLabels": {"team": "search"}, "commonLabels": {"example.org/team": "search"}})
    assert str(only(named, "Deployment")["spec"]["selector"]) in found


def test_ports_that_are_named_are_there(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        (server,) = (one for one in pods(documents) if one.owner.startswith("Deployment"))
        services = {one["metadata"]["name"]: one for one in of_kind(documents, "Service")}
        for one in services.values():
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= set(server.ports), cell
        for policy in of_kind(documents, "NetworkPolicy"):
            asked = {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]}
            assert asked == set(server.ports), cell
        for route, name, port in backends(documents):
            assert port in [value for each in services[name]["spec"]["ports"] for value in each.values()], (cell, route)
        for monitor in of_kind(documents, "PodMonitor"):
            assert {each["port"] for each in monitor["spec"]["podMetricsEndpoints"]} == {"admin"}, cell


def test_a_service_monitor_finds_the_admin_service_alone(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        for monitor in of_kind(documents, "ServiceMonitor"):
            labels = monitor["spec"]["selector"]["matchLabels"]
            (found,) = (each for each in of_kind(documents, "Service") if chosen(labels, each["metadata"]["labels"]))
            assert [port["name"] for port in found["spec"]["ports"]] == ["admin"], cell
            assert {each["port"] for each in monitor["spec"]["endpoints"]} == {"admin"}, cell


def test_what_scales_names_the_deployment_and_leaves_it_no_number(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        deployment = only(documents, "Deployment")
        scalers = list(of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"))
        assert ("replicas" in deployment["spec"]) is not bool(scalers), cell
        for scaler in scalers:
            assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"], cell


def mounts(spec: Mapping[str, Any], container: Mapping[str, Any]) -> dict[str, str]:
    """Where a container has which kind of volume."""
    kinds = {volume["name"]: next(key for key in volume if key != "name") for volume in spec.get("volumes") or ()}
    return {mount["mountPath"]: kinds[mount["name"]] for mount in container.get("volumeMounts") or ()}


def test_volumes_and_mounts_belong_together(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        for one in pods(documents):
            spec = one.template["spec"]
            named = [volume["name"] for volume in spec.get("volumes") or ()]
            used = {mount["name"] for each in containers(spec) for mount in each.get("volumeMounts") or ()}
            assert sorted(named) == sorted(used), f"{cell}: {one.owner}"
            for each in containers(spec):
                paths = [mount["mountPath"] for mount in each.get("volumeMounts") or ()]
                assert len(paths) == len(set(paths)), f"{cell}: {one.owner}"


def test_the_server_writes_only_where_it_must(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        spec, server = server_of(documents)
        writable = {mount["mountPath"] for mount in server["volumeMounts"] if not mount.get("readOnly")}
        assert writable <= {"/tmp", "/cache", "/dev/shm"}, cell
        for volume in spec["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{cell}: {volume['name']} could fill the node's disk"


def references(value: object) -> Iterator[tuple[str, str]]:
    """(kind, name) of each ConfigMap and ServiceAccount that a pod needs."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("configMap", "configMapRef", "configMapKeyRef") and not inner.get("optional"):
                yield "ConfigMap", inner["name"]
            elif key == "serviceAccountName":
                yield "ServiceAccount", inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_what_pods_need_is_rendered_and_secrets_never_are(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        there = {(document["kind"], document["metadata"]["name"]) for document in documents}
        needed = {each for one in pods(documents) for each in references(one.template["spec"])}
        assert needed <= there | GIVEN_BY_OTHERS, cell
        assert not list(of_kind(documents, "Secret")), cell


# What examples and tests/chart/values name, and would be there before.
GIVEN_BY_OTHERS = {("ConfigMap", "more-files"), ("ConfigMap", "storage-authority"), ("ServiceAccount", "default")}


def test_names_are_names_and_everybody_is_labelled(rendered: Rendered) -> None:
    for cell, documents in rendered.items():
        names = Counter((document["kind"], document["metadata"]["name"]) for document in documents)
        assert set(names.values()) == {1}, cell
        for document in documents:
            about = document["metadata"]
            assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", about["name"]), (cell, about["name"])
            assert about["namespace"] == "vectors", (cell, document["kind"], about["name"])
            assert about["labels"].keys() >= STANDARD_LABELS, (cell, document["kind"], about["name"])
            assert about["labels"]["app.kubernetes.io/version"] == service.__version__


def test_the_longest_release_has_names_that_fit() -> None:
    for document in render({"service": {"headless": True}}, release="r" * 53):
        assert len(document["metadata"]["name"]) <= 63


def test_pods_start_anew_when_the_settings_change_and_only_then() -> None:
    def template(values: Mapping[str, Any]) -> object:
        return only(render(values), "Deployment")["spec"]["template"]

    before = template({})
    assert template({"settings": {"max_batch_tokens": 1024}}) != before
    assert template({"service": {"port": 8000}, "podDisruptionBudget": {"enabled": False}, "replicaCount": 3}) == before


def known_metrics() -> set[str]:
    """Names of samples that the server exposes, and those that the adapter makes of them."""
    found: set[str] = set()
    for family in metrics.REGISTRY.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        found |= {family.name + suffix for suffix in suffixes}
    adapter = yaml.safe_load(ADAPTER.read_text("utf-8"))
    return found | {rule["name"]["as"] for rule in adapter["rules"]}


def test_metrics_that_are_asked_for_are_measured(rendered: Rendered) -> None:
    known = known_metrics()
    kinds = ("PrometheusRule", "ScaledObject", "HorizontalPodAutoscaler", "ConfigMap")
    asked = {
        (cell.case, name)
        for cell, documents in rendered.items()
        for document in of_kind(documents, *kinds)
        for name in metrics_named(document.get("spec", document.get("data")))
    }
    assert len(asked) > 10
    assert {(case, name) for case, name in asked if name not in known} == set()
