"""Dashboard, recording rules and autoscaling's queries: none is empty on a Prometheus that scraped the real service
under a load of all kinds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from loadtest.adapter import queries
from loadtest.prometheus import Prometheus, scraping
from tests.conftest import StartServer
from tests.e2e.process import MODEL, wait_until
from tests.monitoring.prometheus import DEPLOY, PACKAGE, SCRAPE_SECONDS, as_grafana, panels, promtool, rules
from tests.monitoring.traffic import FLAGS, key_file, send

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not PACKAGE.can_be_had(), reason="needs Prometheus: its package, or a Debian to take it from"),
]
POD = {"namespace": "vectors", "pod": "emb-embedserve-0", "release": "emb-embedserve"}


def value(prometheus: Prometheus, expression: str) -> float:
    """Of the only sample that there must be."""
    ((_, found),) = prometheus.query(expression)
    return found


@pytest.fixture(scope="module")
def prometheus(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It has scraped a server before, during and after its load, which still goes on a little."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = launch(*FLAGS, "--api-key-file", str(key_file(folder)))
    program, shipped = PACKAGE.program(), [DEPLOY / "prometheus" / "rules.yaml"]
    with scraping(program, {server.port: POD}, folder, shipped, SCRAPE_SECONDS) as found:
        wait_until(lambda: bool(found.query("up == 1")), "a scrape")
        send(server)
        with ThreadPoolExecutor(1) as pool:
            after = value(found, "time()")
            pool.submit(lambda: [server.post("/v1/embeddings", {"input": [f"and {i}"]}) for i in range(400)])
            scraped = f"timestamp(embedserve_ready) > {after + 3}"
            wait_until(lambda: bool(found.query(scraped)), "scrapes after the load")
        yield found


def test_every_panel_has_data(prometheus: Prometheus) -> None:
    empty = []
    for panel in panels():
        for target in panel["targets"]:
            values = [number for _, number in prometheus.query(as_grafana(target["expr"]))]
            if not values or all(map(math.isnan, values)):
                empty.append(f"{panel['title']}: {target['expr']}")
    assert empty == []


def test_every_alert_and_recording_rule_is_evaluated(prometheus: Prometheus) -> None:
    groups: list[dict[str, Any]] = prometheus.get("rules")["groups"]
    found = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert set(found) == {rule.get("alert") or rule["record"] for rule in rules()}
    assert set(found.values()) == {"ok"}
    recorded = [rule["record"] for rule in rules() if "record" in rule]
    assert [name for name in recorded if not prometheus.query(name)] == []


def test_requests_to_the_root_are_told_from_probes_of_it(prometheus: Prometheus) -> None:
    """TEI's clients POST there. KServe's probes GET, which is counted as /livez."""
    asked = {labels["model"] for labels, _ in prometheus.query('embedserve:asked_requests:total{route="/"}')}
    counted = {labels["model"] for labels, _ in prometheus.query('embedserve_requests_total{route="/"}')}
    assert asked == counted == {MODEL}


def test_the_adapters_queries_give_one_number_for_each_pod(prometheus: Prometheus) -> None:
    for name, query in queries(POD["namespace"], POD["pod"]).items():
        ((labels, number),) = prometheus.query(query)
        assert labels == {"pod": POD["pod"]}, name
        assert 0 < number < math.inf, name


def test_signals_are_zero_and_not_missing_where_nothing_comes(prometheus: Prometheus) -> None:
    """The HPA does not scale down by a metric that it cannot get."""
    quiet = {name: query.replace("[1m]", "[4s]") for name, query in queries("vectors", ".*").items()}
    wait_until(lambda: value(prometheus, quiet["embedserve_tokens_per_second"]) == 0, "quiet")
    assert value(prometheus, quiet["embedserve_utilisation"]) == 0
    assert value(prometheus, quiet["embedserve_queue_wait_seconds"]) == 0


def test_rules_and_their_own_tests() -> None:
    folder = DEPLOY / "prometheus"
    assert "SUCCESS" in promtool("check", "rules", folder / "rules.yaml")
    assert "SUCCESS" in promtool("test", "rules", folder / "rules.test.yaml")
    promtool("check", "config", folder / "prometheus.yaml")
