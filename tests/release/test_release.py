"""The version is in one place, and CHANGELOG.md in Keep a Changelog's form."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import tomllib
from pathlib import Path

import pytest

import service
from deploy.release import (
    CHANGELOG,
    CHART,
    FOLLOWERS,
    PACKAGE,
    ROOT,
    UNRELEASED,
    disagreements,
    main,
    mistakes,
    released,
)

GOOD = """# Changelog

## [Unreleased]

### Added
- Something new.

## [0.2.0] - 2026-02-03

### Fixed
- Something old.

## [0.1.0] - 2026-01-02

### Added
- Everything.
"""


def test_every_place_has_the_packages_version() -> None:
    assert list(disagreements(ROOT)) == []


def test_no_image_that_is_named_stays_behind() -> None:
    """But for what `make kustomize` writes, and where two versions are told apart."""
    others = {"deploy/kustomize/base/objects.yaml", "docs/RELEASING.md"}
    below = [path for folder in ("deploy", "docs", "helm") for path in (ROOT / folder).rglob("*")]
    files = [path for path in below if path.is_file() and path.suffix != ".pyc"]  # which repeats its source
    named = re.compile(rf"embedserve[:-]{re.escape(service.__version__)}")
    found = {str(path.relative_to(ROOT)) for path in files if named.search(path.read_text("utf-8", "replace"))}
    assert found - others <= set(FOLLOWERS)


def test_the_project_file_takes_the_version_from_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == PACKAGE


def test_a_changelog_in_form() -> None:
    assert list(mistakes(GOOD)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [
        ("## [Unreleased]", "## Unreleased", "the first version is '## [Unreleased]'"),
        ("2026-02-03", "3 February 2026", "is not of the form ## [MAJOR.MINOR.PATCH] - YYYY-MM-DD"),
        ("[0.2.0]", "[0.0.9]", "versions go from the newest to the oldest"),
        ("[0.2.0]", "[0.1.0]", "each once"),
        ("### Fixed", "### Mended", "'### Mended' is none of Added, Changed"),
        ("- Something old.\n", "", "nothing below '### Fixed'"),
        ("- Everything.\n", "", "nothing below '### Added'"),
        ("### Fixed\n- Something old.\n", "", "nothing below '## [0.2.0] - 2026-02-03'"),
    ],
)
def test_a_changelog_out_of_form(right: str, wrong: str, words: str) -> None:
    assert words in "\n".join(mistakes(GOOD.replace(right, wrong, 1)))


def test_what_was_unreleased_is_the_new_versions() -> None:
    changed = released(GOOD, "0.3.0", dt.date(2026, 3, 4))
    assert re.findall("^## .*$", changed, re.M)[:2] == ["## [Unreleased]", "## [0.3.0] - 2026-03-04"]
    assert list(mistakes(changed)) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a release writes to, as it is here, and one thing to release: right behind a release there is none."""
    for name in (PACKAGE, CHANGELOG, *FOLLOWERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    notes = (ROOT / CHANGELOG).read_text("utf-8")
    more = f"{UNRELEASED}\n\n### Changed\n- One thing more."
    (tmp_path / CHANGELOG).write_text(notes.replace(UNRELEASED, more, 1), "utf-8")
    return tmp_path


def test_a_release_writes_its_number_everywhere(tree: Path) -> None:
    assert main(["7.0.0"], tree) == 0
    assert '__version__ = "7.0.0"' in (tree / PACKAGE).read_text("utf-8")
    assert {"version: 7.0.0", 'appVersion: "7.0.0"'} <= set((tree / CHART).read_text("utf-8").splitlines())
    for name in FOLLOWERS:
        text = (tree / name).read_text("utf-8")
        assert "7.0.0" in text
        assert service.__version__ not in text
    assert list(disagreements(tree)) == []


@pytest.mark.parametrize(
    ("version", "words"), [("next", "MAJOR.MINOR.PATCH"), ("7.0.0", "is not above"), ("7.0.1", "nothing under Unrel")]
)
def test_a_release_that_cannot_be_is_refused_and_nothing_written(
    tree: Path, version: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["7.0.0"], tree) == 0
    before = {name: (tree / name).read_bytes() for name in (PACKAGE, CHANGELOG, *FOLLOWERS)}
    assert main([version], tree) == 1
    assert words in capsys.readouterr().err
    assert {name: (tree / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("name", FOLLOWERS)
def test_a_place_with_another_version_is_named(tree: Path, name: str) -> None:
    path = tree / name
    path.write_text(path.read_text("utf-8").replace(service.__version__, "9.9.9"), "utf-8")
    found = list(disagreements(tree))
    assert found
    assert all(line.startswith(f"{name}: ") and "9.9.9" in line for line in found)
