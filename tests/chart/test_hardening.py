"""checkov, in one run over everything that is rendered: what it complains of is in hardening.toml, with the reason."""

from __future__ import annotations

import json
import subprocess
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.chart.conftest import Note
from tests.chart.helm import HELM4, KUBERNETES, Document
from tests.chart.matrix import render_all
from tests.clients.environments import Python

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(900)]

CHECKOV = Python("checkov", ("checkov==3.3.30",))
BASELINE = Path(__file__).with_name("hardening.toml")
SECONDS = 600


class Failure(NamedTuple):
    """One check that one document does not pass."""

    check: str
    resource: str
    words: str


def report(folder: Path) -> dict[str, Any]:
    """checkov's own, of all documents in the YAML files of a folder."""
    program = CHECKOV.interpreter().with_name("checkov")
    options = ["--framework", "kubernetes", "--skip-download", "--compact", "--quiet", "--output", "json"]
    done = subprocess.run(
        [str(program), "--directory", str(folder), *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    assert found["summary"]["parsing_errors"] == 0, done.stderr
    return found


def failures(told: dict[str, Any]) -> set[Failure]:
    """What a report complains of."""
    return {Failure(one["check_id"], one["resource"], one["check_name"]) for one in told["results"]["failed_checks"]}


def write(folder: Path, name: str, documents: list[Document]) -> None:
    """Written anew, as PyYAML does it: comments of templates tell checkov nothing."""
    (folder / f"{name}.yaml").write_text(yaml.safe_dump_all(documents))


def test_checkov_finds_nothing_but_what_has_a_reason(tmp_path: Path, seen: Note) -> None:
    for cell, documents in render_all(versions=(KUBERNETES[-1],), helms=(HELM4,)).items():
        write(tmp_path, cell.case, documents)
    skips = [(one["check"], one["resource"]) for one in tomllib.loads(BASELINE.read_text("utf-8"))["skip"]]
    told = report(tmp_path)
    found = failures(told)
    seen(f"checkov: {told['summary']['passed']} checks passed, {told['summary']['failed']} have a reason not to")
    needed = {
        failure: [skip for skip in skips if failure.check == skip[0] and fnmatchcase(failure.resource, skip[1])]
        for failure in found
    }
    assert sorted(failure for failure, why in needed.items() if not why) == []
    assert set(skips) == {skip for why in needed.values() for skip in why}, "a reason for what is no longer so"


def test_checkov_finds_a_pod_that_is_not_hardened(tmp_path: Path) -> None:
    container = {"name": "bare", "image": "bare:1", "securityContext": {"privileged": True}}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": {"containers": [container]}}
    write(tmp_path, "bare", [pod])
    assert "CKV_K8S_16" in {failure.check for failure in failures(report(tmp_path))}
