"""The chart as a part of another one, which may switch it off and gives it values of its own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.chart.helm import CHART, HELMS, RELEASE, Helm, Rendering, only
from tests.chart.wiring import of_kind

pytestmark = pytest.mark.heavy

_PARENT = """\
apiVersion: v2
name: search
version: 1.0.0
dependencies:
"""
_ONCE = """\
  - name: embedserve
    version: ">=0"
    condition: embedserve.enabled
"""
_TWICE = """\
  - {name: embedserve, alias: queries, version: ">=0"}
  - {name: embedserve, alias: documents, version: ">=0"}
"""
_RELEASE = re.compile(r'release=\\"([^"\\]+)')  # as JSON has it


def made(folder: Path, dependencies: str) -> Path:
    """A chart that has this one."""
    (folder / "Chart.yaml").write_text(_PARENT + dependencies)
    shutil.copytree(CHART, folder / "charts" / "embedserve")
    return folder


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("search"), _ONCE)


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_it_takes_what_helm_passes_down(helm: Helm, parent: Path) -> None:
    values = {"global": {"registry": "example.org"}, "embedserve": {"enabled": True, "replicaCount": 3}}
    deployment = only(helm.documents(Rendering(values=values, chart=parent)), "Deployment")
    assert deployment["spec"]["replicas"] == 3


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_it_may_be_switched_off(helm: Helm, parent: Path) -> None:
    assert helm.documents(Rendering(values={"embedserve": {"enabled": False}}, chart=parent)) == []


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_two_of_one_release_know_their_own_pods(helm: Helm, tmp_path: Path) -> None:
    keda = {"enabled": True, "serverAddress": "http://prometheus:9090"}
    watched = {"podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    one = {"autoscaling": {"keda": keda}, "monitoring": watched}
    both = Rendering(values={"queries": one, "documents": one}, chart=made(tmp_path, _TWICE))
    documents = helm.documents(both)
    scraped = [
        document["spec"]["podMetricsEndpoints"][0]["relabelings"] for document in of_kind(documents, "PodMonitor")
    ]
    assert scraped[0] != scraped[1]
    for kind in ("ScaledObject", "PrometheusRule"):
        asked = {d["metadata"]["name"]: json.dumps(d["spec"]) for d in of_kind(documents, kind)}
        releases = {name: set(_RELEASE.findall(text)) for name, text in asked.items()}
        assert releases == {name: {name} for name in (f"{RELEASE}-queries", f"{RELEASE}-documents")}
