"""A release's number, date and notes: python -m deploy.release VERSION, or --check.

VERSION is written into service/__init__.py, which the wheel, the command and the API read, into the chart's version and
appVersion, and into the names of images and of the chart's package in deploy/ and in documentation; what CHANGELOG.md
has under Unreleased becomes that version's. Nothing is committed, tagged or sent anywhere. Exit status 1 with a line
for each mistake, and nothing written then.
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG, PACKAGE, CHART = "CHANGELOG.md", "service/__init__.py", "helm/embedserve/Chart.yaml"
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
UNRELEASED = "## [Unreleased]"

_VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")
_RELEASED = re.compile(rf"## \[(?P<version>{_VERSION.pattern})\] - (?P<date>\d{{4}}-\d\d-\d\d)")
_IN_PACKAGE = re.compile(r'^__version__ = "(?P<version>[^"]*)"$', re.M)
_IN_CHART = re.compile(r'^(?:version|appVersion): "?(?P<version>[^"\n]*)"?$', re.M)
_TAG = re.compile(rf"^ +(?:image: embedserve:|newTag: )(?P<version>{_VERSION.pattern})", re.M)
# In commands that somebody copies, the chart's file among them. "…" stands for the rest of a name that was said before.
_TYPED = re.compile(rf"(?:embedserve|…)[:-](?P<version>{_VERSION.pattern})")
FOLLOWERS = {
    CHART: _IN_CHART,
    "deploy/kserve/clusterservingruntime.yaml": _TAG,
    "deploy/kustomize/overlays/cpu/kustomization.yaml": _TAG,
    "deploy/kustomize/overlays/gpu/kustomization.yaml": _TAG,
    "deploy/vertex/README.md": _TYPED,
    "deploy/vertex/__main__.py": _TYPED,
    "docs/KUBERNETES.md": _TYPED,
    "helm/embedserve/examples/air-gapped.yaml": _TYPED,
}
"""Files that name the package's version, and where."""


def numbers(version: str) -> tuple[int, ...]:
    """For comparisons. Raises ValueError where it is not MAJOR.MINOR.PATCH."""
    if _VERSION.fullmatch(version) is None:
        raise ValueError(f"{version} is not of the form MAJOR.MINOR.PATCH")
    return tuple(map(int, version.split(".")))


def mistakes(changelog: str) -> Iterator[str]:
    """Where it is not in Keep a Changelog's form: https://keepachangelog.com."""
    headings = re.findall(r"^## .*$", changelog, re.M)
    if not headings or headings[0] != UNRELEASED:
        yield f"the first version is {UNRELEASED!r}"
    found = [(line, _RELEASED.fullmatch(line)) for line in headings if line != UNRELEASED]
    for line, released in found:
        if released is None:
            yield f"{line!r} is not of the form ## [MAJOR.MINOR.PATCH] - YYYY-MM-DD"
    versions = [numbers(one["version"]) for _, one in found if one]
    if versions != sorted(set(versions), reverse=True):
        yield "versions go from the newest to the oldest, each once"
    for line in re.findall(r"^### .*$", changelog, re.M):
        if line.removeprefix("### ") not in SECTIONS:
            yield f"{line!r} is none of {', '.join(SECTIONS)}"
    lines = [line for line in changelog.splitlines() if line.strip()]
    for line, after in itertools.pairwise([*lines, "## "]):
        if line.startswith("##") and after.startswith("##") and _depth(after) <= _depth(line) and line != UNRELEASED:
            yield f"there is nothing below {line!r}"


def _depth(heading: str) -> int:
    return len(heading) - len(heading.lstrip("#"))


def released(changelog: str, version: str, date: dt.date) -> str:
    """What is unreleased is that version's from now on."""
    return changelog.replace(UNRELEASED, f"{UNRELEASED}\n\n## [{version}] - {date.isoformat()}", 1)


def with_package_version(source: str, version: str) -> str:
    """service/__init__.py."""
    return _IN_PACKAGE.sub(f'__version__ = "{version}"', source)


def with_followers_version(text: str, where: re.Pattern[str], version: str) -> str:
    """One of FOLLOWERS."""
    return where.sub(lambda found: found[0].replace(found["version"], version), text)


def disagreements(root: Path) -> Iterator[str]:
    """Places that do not have the package's version, and mistakes in the changelog."""
    own = _IN_PACKAGE.search((root / PACKAGE).read_text("utf-8"))
    if own is None:
        yield f"{PACKAGE} has no __version__"
        return
    for name, where in FOLLOWERS.items():
        for found in where.finditer((root / name).read_text("utf-8")):
            if found["version"] != own["version"]:
                yield f"{name}: {found[0].strip()}, but {PACKAGE} says {own['version']}"
    for line in mistakes((root / CHANGELOG).read_text("utf-8")):
        yield f"{CHANGELOG}: {line}"


def _refusals(root: Path, version: str) -> Iterator[str]:
    changelog = (root / CHANGELOG).read_text("utf-8")
    before = [found["version"] for found in _RELEASED.finditer(changelog)]
    if before and numbers(version) <= numbers(before[0]):
        yield f"{version} is not above {before[0]}, the newest in {CHANGELOG}"
    if not changelog.partition(UNRELEASED)[2].partition("\n## ")[0].strip():
        yield f"{CHANGELOG} has nothing under Unreleased"


def _write(root: Path, version: str) -> None:
    today = dt.datetime.now(dt.UTC).date()
    changes: dict[str, Callable[[str], str]] = {
        CHANGELOG: lambda text: released(text, version, today),
        PACKAGE: lambda text: with_package_version(text, version),
        **{name: partial(with_followers_version, where=where, version=version) for name, where in FOLLOWERS.items()},
    }
    for name, change in changes.items():
        path = root / name
        path.write_text(change(path.read_text("utf-8")), "utf-8")
        print(f"{name}: {version}")


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Exit status: 0, or 1 with reasons."""
    parser = argparse.ArgumentParser(prog="python -m deploy.release", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("version", nargs="?", metavar="VERSION", help="MAJOR.MINOR.PATCH; without it, --check")
    parser.add_argument("--check", action="store_true", help="whether all places agree, and the changelog is in form")
    options = parser.parse_args(arguments)
    try:
        wrong = list(disagreements(root)) + ([] if options.version is None else list(_refusals(root, options.version)))
    except ValueError as error:
        wrong = [str(error)]
    for line in wrong:
        print(f"release: {line}", file=sys.stderr)
    if wrong or options.check or options.version is None:
        return int(bool(wrong))
    _write(root, options.version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
