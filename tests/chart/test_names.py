"""Names that YAML would take for something else stay texts, and ports of what is told are let out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chart.helm import CHART, HELM4, RELEASE, Document, Rendering, only, render
from tests.chart.matrix import EVERYTHING

pytestmark = pytest.mark.heavy

EXAMPLES = CHART / "examples"
NAMING = ("name", "namespace", "replacement", "secretName", "claimName", "serviceName")


def named(value: Any) -> Iterator[Any]:
    """Every name in a document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in NAMING or key.startswith("app.kubernetes.io/"):
                yield inner
            yield from named(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from named(inner)


@pytest.mark.parametrize("name", ["no", "true", "null"])
def test_a_name_that_looks_like_something_else_is_a_text(name: str) -> None:
    what = Rendering(files=(EVERYTHING,), values={"fullnameOverride": name, "nameOverride": name}, release="123")
    documents = HELM4.documents(what)
    found = [one for document in documents for one in named(document)]
    assert [one for one in found if not isinstance(one, str)] == []
    assert {"123", name} <= set(found)


def test_keys_and_claims_of_digits_are_texts() -> None:
    loads = {"enabled": True, "report": {"claimName": "123"}}
    spec = only(render({"loadtest": loads, "test": {"existingSecret": "a", "key": "456"}}), "Job")["spec"]["template"][
        "spec"
    ]
    (container,) = spec["containers"]
    (key,) = (one["valueFrom"]["secretKeyRef"]["key"] for one in container["env"] if "valueFrom" in one)
    (claim,) = (one["persistentVolumeClaim"]["claimName"] for one in spec["volumes"] if "persistentVolumeClaim" in one)
    assert (key, claim) == ("456", "123")


def test_a_namespace_of_digits_is_a_text() -> None:
    documents = HELM4.documents(Rendering(files=(EVERYTHING,), extra=["--namespace", "123"]))
    assert {document["metadata"]["namespace"] for document in documents} == {"123"}


def egress_ports(documents: list[Document]) -> list[int]:
    """Of the way out to where models are."""
    rules = only(documents, "NetworkPolicy")["spec"]["egress"]
    return [port["port"] for rule in rules if "to" not in rule for port in rule["ports"]]


@pytest.mark.parametrize(
    ("source", "ports"),
    [
        ({"download": {"endpoint": "https://hub.example.org:8443"}}, [443, 8443]),
        ({"download": {"endpoint": "http://hub.example.org"}}, [443, 80]),
        ({"download": {"endpoint": "https://hub.example.org"}}, [443]),
        ({"type": "s3", "s3": {"uri": "s3://a/b", "image": "aws:2", "endpoint": "https://minio:9000"}}, [443, 9000]),
    ],
    ids=str,
)
def test_the_port_of_the_endpoint_is_let_out(source: dict[str, Any], ports: list[int]) -> None:
    assert egress_ports(render({"modelSource": source})) == ports


def test_what_is_said_in_two_values_is_there_once() -> None:
    """The renderer of these tests refuses keys that are there twice."""
    labels = {"release": "prometheus", "grafana_dashboard": "1"}
    values = {
        "commonLabels": labels | {"team": "search"},
        "podLabels": {"team": "vectors"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "another", "checksum/config": "mine"},
        "monitoring": {
            "labels": {"release": "operator"},
            "podMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True, "labels": {"grafana_dashboard": "2"}},
        },
    }
    documents = render(values)
    assert only(documents, "PodMonitor")["metadata"]["labels"]["release"] == "operator"
    assert (
        only(documents, "ConfigMap", f"{RELEASE}-embedserve-dashboard")["metadata"]["labels"]["grafana_dashboard"]
        == "2"
    )
    pod = only(documents, "Deployment")["spec"]["template"]["metadata"]
    assert pod["annotations"] == values["podAnnotations"]


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_the_port_of_a_proxy_is_let_out(name: str) -> None:
    told = [{"name": name, "value": "http://proxy.example.org:3128"}, {"name": "NO_PROXY", "value": "a:1"}]
    assert egress_ports(render({"extraEnv": told})) == [443, 3128]


@pytest.mark.parametrize(
    ("name", "value", "ports"),
    [
        ("HF_ENDPOINT", "http://hub.example.org:8080", [443, 8080]),
        ("AWS_ENDPOINT_URL", "http://minio:9000", [443, 9000]),
        ("AWS_ENDPOINT_URL_S3", "http://minio:9000/", [443, 9000]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://$(HOST_IP):4318", [443, 4318]),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector:4320/v1/traces", [443, 4320]),
        ("HTTPS_PROXY", "http://$(PROXY_HOST):$(PROXY_PORT)", [443]),
        ("HTTPS_PROXY", "http://user:$(PASSWORD)@proxy:3128", [443, 3128]),
    ],
)
def test_the_port_of_what_a_variable_names_is_let_out(name: str, value: str, ports: list[int]) -> None:
    assert egress_ports(render({"extraEnv": [{"name": name, "value": value}]})) == ports


def test_traces_go_where_the_variable_says_that_wins() -> None:
    values = {
        "modelSource": {"type": "image"},
        "tracing": {"endpoint": "http://collector:4318"},
        "extraEnv": [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://other:4320"}],
    }
    assert egress_ports(render(values)) == [4320]


def test_names_are_asked_for_where_openshifts_dns_pods_listen_too() -> None:
    rule = only(render(), "NetworkPolicy")["spec"]["egress"][0]
    asked = {(port["port"], port["protocol"]) for port in rule["ports"]}
    assert asked == {(53, "UDP"), (53, "TCP"), (5353, "UDP"), (5353, "TCP")}


def test_s3_without_an_endpoint_is_amazons() -> None:
    """And the example's own, with it."""
    assert egress_ports(render({}, EXAMPLES / "s3.yaml")) == [443, 9000]
    assert egress_ports(render({"modelSource": {"s3": {"endpoint": ""}}}, EXAMPLES / "s3.yaml")) == [443]
