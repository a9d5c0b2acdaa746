"""All of the matrix: both Helms say the same, and the API server of each Kubernetes would take it."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest

from tests.chart.conftest import Note
from tests.chart.helm import CHART, HELM3, HELM4, HELMS, KUBERNETES, Document, Helm, Rendering
from tests.chart.matrix import CASES, Cell, render_all
from tests.clients.environments import Python

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

VALIDATE = Path(__file__).parent / "scripts" / "validate.py"
CRDS = Path(__file__).parent / "crds"
VALIDATOR = Python("kubernetes-validate", ("kubernetes-validate==1.37.0",))


@pytest.fixture(scope="module")
def rendered() -> dict[Cell, list[Document]]:
    return render_all()


def complaints(documents: dict[str, list[Document]], folder: Path) -> list[list[str]]:
    """Of all documents of {version: documents}."""
    file = folder / "documents.json"
    file.write_text(json.dumps(documents))
    found: list[list[str]] = VALIDATOR.run(str(VALIDATE), str(file), str(CRDS))
    return found


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
@pytest.mark.parametrize("case", CASES)
def test_helms_lint_has_no_complaint(helm: Helm, case: str) -> None:
    files = [option for file in CASES[case] for option in ("--values", str(file))]
    assert "0 chart(s) failed" in helm.run("lint", "--strict", str(CHART), *files)


def test_both_helms_render_the_same(rendered: dict[Cell, list[Document]], seen: Note) -> None:
    versions = " and ".join(helm.run("version", "--short").partition("+")[0] for helm in HELMS)
    seen(f"{len(rendered)} renderings: {len(CASES)} files of values x {len(KUBERNETES)} of Kubernetes, Helm {versions}")
    for cell, documents in rendered.items():
        if cell.helm == HELM3:
            assert documents == rendered[cell._replace(helm=HELM4)], cell


def test_the_api_server_of_each_kubernetes_would_take_it(
    rendered: dict[Cell, list[Document]], tmp_path: Path, seen: Note
) -> None:
    by_version: dict[str, list[Document]] = defaultdict(list)
    for cell, documents in rendered.items():
        if cell.helm == HELM4:
            by_version[cell.kubernetes] += documents
    kinds = sorted({document["kind"] for documents in by_version.values() for document in documents})
    seen(f"{sum(map(len, by_version.values()))} documents against the schemas of their kinds: {', '.join(kinds)}")
    assert complaints(by_version, tmp_path) == []


def test_what_the_api_server_would_not_take_is_found(tmp_path: Path) -> None:
    def document(api: str, kind: str, **spec: object) -> Document:
        return {"apiVersion": api, "kind": kind, "metadata": {"name": "wrong"}, "spec": spec}

    wrong = [
        document("v1", "Service", sesionAffinity="None"),
        document("apps/v1", "Deployment", replicas="two"),
        document("monitoring.coreos.com/v1", "ServiceMonitor", selector={}, endpoints=[{"ports": "admin"}]),
        document("example.com/v1", "Unheard"),
    ]
    found = complaints({KUBERNETES[0]: wrong}, tmp_path)
    assert [kind.split()[0] for _, kind, _ in found] == ["Service", "Deployment", "ServiceMonitor", "Unheard"]


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_no_older_kubernetes_is_promised(helm: Helm) -> None:
    with pytest.raises(Exception, match="incompatible with Kubernetes"):
        helm.documents(Rendering(kubernetes="1.26.0"))
