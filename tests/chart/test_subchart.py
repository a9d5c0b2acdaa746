"""The chart as a part of another one, which may switch it off and gives it values of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.chart.helm import CHART, HELMS, Helm, Rendering, only

pytestmark = pytest.mark.heavy

_PARENT = """\
apiVersion: v2
name: search
version: 1.0.0
dependencies:
  - name: embedserve
    version: ">=0"
    condition: embedserve.enabled
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("search")
    (folder / "Chart.yaml").write_text(_PARENT)
    shutil.copytree(CHART, folder / "charts" / "embedserve")
    return folder


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_it_takes_what_helm_passes_down(helm: Helm, parent: Path) -> None:
    values = {"global": {"registry": "example.org"}, "embedserve": {"enabled": True, "replicaCount": 3}}
    deployment = only(helm.documents(Rendering(values=values, chart=parent)), "Deployment")
    assert deployment["spec"]["replicas"] == 3


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_it_may_be_switched_off(helm: Helm, parent: Path) -> None:
    assert helm.documents(Rendering(values={"embedserve": {"enabled": False}}, chart=parent)) == []
