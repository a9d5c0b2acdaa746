"""The chart as it is handed out: one archive, with the chart in it and nothing else, of the server's version."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

import service
from tests.chart.helm import CHART, HELMS, Helm, Rendering, render
from tests.chart.matrix import EVERYTHING

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600)]

# A file of another kind or place is left out of the archive (.helmignore), or has to be thought of here.
BELONGS = ("Chart.yaml", "README.md", "values.yaml", "values.schema.json", "templates/*", "files/*", "examples/*.yaml")
LARGEST = 200_000  # bytes: Helm keeps a release in a Secret, which holds a million


def packed(helm: Helm, folder: Path) -> Path:
    """The archive that `helm package` makes."""
    helm.run("package", str(CHART), "--destination", str(folder))
    return folder / f"embedserve-{service.__version__}.tgz"


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_the_archive_holds_the_chart_and_nothing_else(helm: Helm, tmp_path: Path) -> None:
    archive = packed(helm, tmp_path)
    with tarfile.open(archive) as opened:
        names = {member.name for member in opened.getmembers() if member.isfile()}
        assert all(member.isfile() for member in opened.getmembers())
    wanted = {file for pattern in BELONGS for file in CHART.glob(pattern) if file.is_file()}
    wanted |= {file for file in (CHART / "templates").rglob("*") if file.is_file()}
    assert names == {f"embedserve/{file.relative_to(CHART)}" for file in wanted}
    assert archive.stat().st_size < LARGEST


@pytest.mark.parametrize("helm", HELMS, ids=lambda helm: helm.name)
def test_the_archive_renders_what_the_folder_does(helm: Helm, tmp_path: Path) -> None:
    archive = packed(helm, tmp_path)
    assert helm.documents(Rendering(files=(EVERYTHING,), chart=archive)) == render({}, EVERYTHING)


def test_the_image_is_that_of_the_charts_version() -> None:
    def image(**values: object) -> str:
        deployment = next(one for one in render(values) if one["kind"] == "Deployment")
        found: str = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
        return found

    assert image() == f"embedserve:{service.__version__}"
    assert image(gpu={"enabled": True}) == f"embedserve:{service.__version__}-gpu"
