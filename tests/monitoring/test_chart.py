"""What the chart makes of rules, dashboard and targets, by real Helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from loadtest.adapter import queries
from tests.chart.helm import HELMS, NAMESPACE, RELEASE, Helm, Refused, Rendering, only, render
from tests.monitoring.prometheus import PACKAGE, as_grafana, dashboard, panels, promtool, rules

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]
OWN = f'job="embedserve", namespace="{NAMESPACE}", release="{RELEASE}-embedserve"'
KEDA = {"enabled": True, "serverAddress": "http://prometheus:9090"}
MONITORING = {"prometheusRule": {"enabled": True}, "dashboard": {"enabled": True}, "labels": {"release": "operator"}}


def spec(kind: str, **values: Any) -> dict[str, Any]:
    """Of the only object of a kind."""
    found: dict[str, Any] = only(render(values), kind)["spec"]
    return found


def test_a_release_has_all_rules_and_each_tells_of_itself() -> None:
    groups = spec("PrometheusRule", monitoring=MONITORING)["groups"]
    rendered = [rule for group in groups for rule in group["rules"]]
    expected = json.loads(json.dumps(rules()).replace('job=\\"embedserve\\"', OWN.replace('"', '\\"')))
    assert rendered == expected
    assert all("embedserve_" not in rule["expr"] or OWN in rule["expr"] for rule in rendered)


@pytest.mark.parametrize(("timeout", "seconds"), [(30, 15), (1, 0.5), (3600, 60)])
def test_the_alert_comes_before_the_restart(timeout: float, seconds: float) -> None:
    groups = spec("PrometheusRule", monitoring=MONITORING, settings={"stall_timeout": timeout})["groups"]
    (alert,) = (one for group in groups for one in group["rules"] if one.get("alert") == "EmbedserveStalled")
    assert alert["expr"].endswith(f"> {seconds}")


def test_a_probes_own_route_is_no_request() -> None:
    groups = spec("PrometheusRule", monitoring=MONITORING, settings={"health_route": "/a.b"})["groups"]
    rates = [rule["expr"] for group in groups for rule in group["rules"] if "route!~" in rule["expr"]]
    rates += [target["expr"] for target in targets(settings={"health_route": "/a.b"}) if "route!~" in target["expr"]]
    assert len(rates) > 12
    assert all('|unmatched|/a\\\\.b"' in rate for rate in rates)


def test_a_probes_route_with_a_quote_is_one_in_promql() -> None:
    values = {"settings": {"health_route": '/a"b\\c'}}
    groups = spec("PrometheusRule", monitoring=MONITORING, **values)["groups"]
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    for one in expressions + [as_grafana(target["expr"]) for target in targets(**values)]:
        promql_parser.parse(one)


def test_probes_are_no_requests_where_requests_are_counted() -> None:
    by_route = ("Requests by route", "p99 by route", "In flight")
    counted = [
        target["expr"]
        for panel in panels()
        for target in panel["targets"]
        if panel["title"] not in by_route and "embedserve_request" in target["expr"]
    ]
    assert len(counted) > 8
    assert [one for one in counted if one.count("embedserve_request") != one.count("route!~")] == []


@pytest.mark.skipif(not PACKAGE.can_be_had(), reason="needs Prometheus: its package, or a Debian to take it from")
def test_promtool_takes_a_releases_rules(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": spec("PrometheusRule", monitoring=MONITORING)["groups"]}), "utf-8")
    assert f"{len(rules())} rules found" in promtool("check", "rules", file)


def test_alerts_lead_to_where_the_runbook_can_be_read() -> None:
    own = MONITORING | {"prometheusRule": {"enabled": True, "runbookUrl": "https://example.org/runbook"}}
    groups = spec("PrometheusRule", monitoring=own)["groups"]
    links = [rule["annotations"]["runbook_url"] for group in groups for rule in group["rules"] if "alert" in rule]
    assert all(link.startswith("https://example.org/runbook#embedserve") for link in links)


def targets(**values: Any) -> list[dict[str, Any]]:
    """Of the dashboard that the chart makes with these values."""
    documents = render({"monitoring": MONITORING, **values})
    ((_, text),) = only(documents, "ConfigMap", f"{RELEASE}-embedserve-dashboard")["data"].items()
    return [target for panel in json.loads(text)["panels"] for target in panel.get("targets", [])]


def dashboard_of(release: str) -> tuple[str, dict[str, Any]]:
    """The file that the sidecar makes, and what is in it."""
    documents = render({"monitoring": MONITORING}, release=release)
    configmap = only(documents, "ConfigMap", f"{release}-embedserve-dashboard")
    assert configmap["metadata"]["labels"]["grafana_dashboard"] == "1"
    [(file, text)] = configmap["data"].items()
    return file, json.loads(text)


def test_the_dashboard_is_the_one_that_is_shipped() -> None:
    _, found = dashboard_of(RELEASE)
    assert found | {"uid": "embedserve", "title": "embedserve"} == dashboard()
    assert len(found["uid"]) <= 40


def test_dashboards_of_two_releases_are_two() -> None:
    one, other = dashboard_of("one"), dashboard_of("other")
    assert one[0] != other[0]
    assert one[1]["uid"] != other[1]["uid"]
    assert one[1]["title"] != other[1]["title"]


def test_the_dashboard_knows_the_releases_targets() -> None:
    targets = {"utilisation": 0.4, "queueWaitSeconds": 2}
    documents = render({"monitoring": MONITORING, "autoscaling": {"targets": targets}})
    ((_, text),) = only(documents, "ConfigMap", f"{RELEASE}-embedserve-dashboard")["data"].items()
    assert (text.count(" / 0.4)"), text.count(" / 2)")) == (1, 1)
    assert " / 0.7)" not in text
    assert " / 0.25)" not in text


def test_every_expression_of_the_dashboard_is_of_a_release() -> None:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    chosen = 'namespace=~"$namespace", release=~"$release"'
    assert [one for one in asked if one.count('job="embedserve"') + one.count("ALERTS") != one.count(chosen)] == []


@pytest.mark.parametrize(
    ("kind", "endpoints"), [("ServiceMonitor", "endpoints"), ("PodMonitor", "podMetricsEndpoints")]
)
def test_monitors_find_the_admin_port_once(kind: str, endpoints: str) -> None:
    documents = render({"monitoring": {f"{kind[0].lower()}{kind[1:]}": {"enabled": True}, "labels": {"release": "o"}}})
    monitor = only(documents, kind)
    assert monitor["metadata"]["labels"]["release"] == "o"
    (endpoint,) = monitor["spec"]["endpoints" if kind == "ServiceMonitor" else "podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["scheme"]) == ("admin", "http")
    assert {one["targetLabel"]: one["replacement"] for one in endpoint["relabelings"]} == {
        "job": "embedserve",
        "release": f"{RELEASE}-embedserve",
    }
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    chosen = [
        document
        for document in documents
        if (kind, document["kind"]) in (("ServiceMonitor", "Service"), ("PodMonitor", "Deployment"))
        and wanted <= (document["spec"].get("template") or document)["metadata"]["labels"].items()
    ]
    assert len(chosen) == 1


def test_scrapes_know_whose_certificate_it_is() -> None:
    tls = {"existingSecret": "certificate"}
    (endpoint,) = spec("ServiceMonitor", tls=tls, monitoring={"serviceMonitor": {"enabled": True}})["endpoints"]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"]["ca"]["secret"]["name"] == "certificate"
    assert endpoint["tlsConfig"]["serverName"] == f"{RELEASE}-embedserve-admin.{NAMESPACE}.svc"
    own = {"serviceMonitor": {"enabled": True}, "tlsConfig": {"insecureSkipVerify": True}}
    (endpoint,) = spec("ServiceMonitor", tls=tls, monitoring=own)["endpoints"]
    assert endpoint["tlsConfig"] == {"insecureSkipVerify": True}


@pytest.mark.parametrize("scaler", [{"hpa": {"enabled": True}}, {"keda": KEDA}], ids=["HPA", "KEDA"])
def test_what_scales_is_alone_in_saying_how_many(scaler: dict[str, Any]) -> None:
    assert "replicas" not in only(render({"autoscaling": scaler}), "Deployment")["spec"]
    assert "replicas" in only(render(), "Deployment")["spec"]


def test_the_hpa_has_the_targets_that_are_set() -> None:
    targets = {"tokensPerSecond": 2_000_000, "queueWaitSeconds": None}
    cpu = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}
    hpa = spec(
        "HorizontalPodAutoscaler", autoscaling={"hpa": {"enabled": True, "extraMetrics": [cpu]}, "targets": targets}
    )
    pods = [one["pods"] for one in hpa["metrics"] if one["type"] == "Pods"]
    assert {one["metric"]["name"]: float(one["target"]["averageValue"]) for one in pods} == {
        "embedserve_utilisation": 0.7,
        "embedserve_tokens_per_second": 2_000_000,
    }
    assert hpa["metrics"][-1] == cpu
    assert hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300


def test_kedas_hpa_is_not_called_as_the_charts() -> None:
    """Helm would take it over when the release goes back to an HPA, and delete its owner."""
    own = only(render({"autoscaling": {"hpa": {"enabled": True}}}), "HorizontalPodAutoscaler")["metadata"]["name"]
    scaled = only(render({"autoscaling": {"keda": KEDA}}), "ScaledObject")
    kedas = f"keda-hpa-{scaled['metadata']['name']}"
    assert scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"].get("name", kedas) != own


def test_keda_asks_what_the_adapter_asks() -> None:
    scaled = spec("ScaledObject", autoscaling={"keda": KEDA, "targets": {"tokensPerSecond": 9000}})
    asked = {one["name"]: one for one in scaled["triggers"]}
    assert {name: float(one["metadata"]["threshold"]) for name, one in asked.items()} == {
        "utilisation": 0.7,
        "queue-wait": 0.25,
        "tokens": 9000,
    }
    assert {name: one["metricType"] for name, one in asked.items()} == {
        "utilisation": "AverageValue",
        "queue-wait": "Value",
        "tokens": "AverageValue",
    }
    for one in asked.values():
        assert one["metadata"]["ignoreNullValues"] == "false"
        assert OWN in one["metadata"]["query"]
        promql_parser.parse(one["metadata"]["query"])
    of_one_pod = queries("n", "p")["embedserve_utilisation"].replace("sum by (pod)", "sum")
    assert of_one_pod.split("{")[0].removeprefix("sum ") in asked["utilisation"]["metadata"]["query"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"autoscaling": {"keda": {"enabled": True}}}, "set autoscaling.keda.serverAddress"),
        (
            {"autoscaling": {"hpa": {"enabled": True}, "targets": {"utilisation": None, "queueWaitSeconds": None}}},
            "set one of autoscaling.targets",
        ),
        ({"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}}, "counted twice"),
        ({"autoscaling": {"hpa": {"enabled": True}, "keda": KEDA}}, "disable one of them"),
    ],
    ids=["KEDA without Prometheus", "no target", "both monitors", "HPA and KEDA"],
)
@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_what_contradicts_itself_is_refused_with_the_remedy(helm: Helm, values: dict[str, Any], words: str) -> None:
    with pytest.raises(Refused, match=words):
        helm.render(Rendering(values=values))


@pytest.mark.parametrize(
    "values",
    [
        {"autoscaling": {"targets": {"utilisation": 70}}},
        {"autoscaling": {"targets": {"queueWaitSeconds": 0}}},
        {"autoscaling": {"hpa": {"minReplicas": 0}}},
        {"autoscaling": {"keda": {"serverAddress": "prometheus:9090"}}},
        {"autoscaling": {"behavior": {"scaleDown": {"policies": []}}}},
        {"autoscaling": {"behaviour": {}}},
        {"monitoring": {"interval": "15"}},
        {"monitoring": {"interval": "16s"}},
        {"monitoring": {"dashboards": {"enabled": True}}},
    ],
    ids=str,
)
def test_what_the_schema_does_not_know_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"schema"):
        render(values)
