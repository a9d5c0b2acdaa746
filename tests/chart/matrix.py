"""Everything that is rendered: each example and the defaults, on each Kubernetes, by each Helm."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.chart.helm import CHART, HELM4, HELMS, KUBERNETES, Document, Helm, Rendering

HERE = Path(__file__).parent
EVERYTHING, THE_REST = (HERE / "values" / f"{name}.yaml" for name in ("everything", "the-rest"))
# With nothing said, and with all that can be said; those that are shipped are between.
CASES: dict[str, tuple[Path, ...]] = {
    "defaults": (),
    **{file.stem: (file,) for file in sorted((CHART / "examples").glob("*.yaml"))},
    "everything": (EVERYTHING,),
    "the-rest": (THE_REST,),
}


class Cell(NamedTuple):
    """What one rendering was of."""

    case: str
    kubernetes: str
    helm: Helm

    def __str__(self) -> str:
        return f"{self.case}, Kubernetes {self.kubernetes}, {self.helm.name}"

    @property
    def minor(self) -> int:
        """28 of 1.28.0."""
        return int(self.kubernetes.split(".")[1])


def render_all(
    cases: Sequence[str] = tuple(CASES),
    versions: Sequence[str] = KUBERNETES,
    helms: Sequence[Helm] = HELMS,
) -> dict[Cell, list[Document]]:
    """Documents of each cell. Raises helm.Refused where one cannot be rendered."""
    for helm in helms:
        helm.program()  # downloaded once, not by each thread
    cells = [Cell(case, version, helm) for case in cases for version in versions for helm in helms]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return dict(zip(cells, threads.map(_documents, cells), strict=True))


def _documents(cell: Cell) -> list[Document]:
    return cell.helm.documents(Rendering(files=CASES[cell.case], kubernetes=cell.kubernetes))


def oldest_and_newest() -> dict[Cell, list[Document]]:
    """Enough for what does not depend on Helm, and little on Kubernetes."""
    return render_all(versions=(KUBERNETES[0], KUBERNETES[-1]), helms=(HELM4,))
