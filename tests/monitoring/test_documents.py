"""Rules, dashboard, runbook and chart name metrics that there are, and leave out no alert."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from loadtest.adapter import queries
from service.metrics import REGISTRY
from tests.monitoring.prometheus import DEPLOY, as_grafana, dashboard, panels, rules

ROOT = DEPLOY.parent
TEMPLATES = ROOT / "helm" / "embedserve" / "templates"
ALERTS = {rule["alert"]: rule for rule in rules() if "alert" in rule}
NAMED = re.compile(r"\bembedserve_[a-z0-9_]+\b")
OF_ADAPTER = set(queries("n", "p"))


def exposed() -> set[str]:
    """Names of all series that the service may have."""
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    own = [one for one in REGISTRY.collect() if one.name.startswith("embedserve_")]
    return {one.name + suffix for one in own for suffix in suffixes[one.type]}


def named(path: Path) -> set[str]:
    return set(NAMED.findall(path.read_text("utf-8")))


def sections() -> dict[str, str]:
    """Of the runbook, by heading."""
    parts = (ROOT / "docs" / "RUNBOOK.md").read_text("utf-8").split("\n## ")[1:]
    return {heading: text for heading, _, text in (part.partition("\n") for part in parts)}


@pytest.mark.parametrize(
    "path",
    [
        DEPLOY / "prometheus" / "rules.yaml",
        DEPLOY / "prometheus" / "rules.test.yaml",
        DEPLOY / "prometheus" / "adapter-rules.yaml",
        DEPLOY / "grafana" / "dashboard.json",
        TEMPLATES / "hpa.yaml",
        TEMPLATES / "scaledobject.yaml",
        ROOT / "docs" / "RUNBOOK.md",
    ],
    ids=lambda path: path.name,
)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    family = {one.rpartition("_")[0] for one in exposed() if one.endswith("_bucket")}
    assert named(path) - exposed() - family - OF_ADAPTER == set()


def test_every_alert_is_tested_where_it_comes_and_where_it_does_not() -> None:
    tests = yaml.safe_load((DEPLOY / "prometheus" / "rules.test.yaml").read_text("utf-8"))["tests"]
    cases = [case for test in tests for case in test.get("alert_rule_test", [])]
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == set(ALERTS)
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_every_alert_leads_to_its_section(name: str) -> None:
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["runbook_url"] == f"docs/RUNBOOK.md#{name.lower()}"
    for part in ("**Means**", "**Users see**"):
        assert part in sections()[name].replace("\n", " ")
    assert re.search(r"\*\*Do\*\*|\*\*do\*\*", sections()[name])


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    assert list(sections()) == list(ALERTS)


def test_the_hpa_reads_what_the_adapter_gives() -> None:
    template = (TEMPLATES / "hpa.yaml").read_text("utf-8")
    read = re.findall(r'"(\w+)" \.\w+', template)
    assert {f"embedserve_{name}" for name in read} == OF_ADAPTER


def test_every_panel_says_what_it_shows() -> None:
    titles = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert len(titles) == 9
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
    numbers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(numbers) == len(set(numbers))


def test_every_expression_of_the_dashboard_parses() -> None:
    for panel in panels():
        for target in panel["targets"]:
            promql_parser.parse(as_grafana(target["expr"]))


def test_panels_do_not_cover_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place: dict[str, Any] = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
