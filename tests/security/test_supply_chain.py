"""What runs the server is pinned, hashed, listed, and looked up."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy.audit import FOUND, NOT_ASKED, NOTHING_KNOWN, ask, judge, main
from tests.clients.environments import Python

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "requirements"
EXTRAS = {"server-cpu.txt": ("cpu", "otel"), "server-gpu.txt": ("gpu", "otel"), "test.txt": ("test",)}
PIN = re.compile(
    r"^(?P<requirement>[^\s#][^\\]*==[^\\]*?) \\\n(?P<hashes>(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def pins(lock: Path) -> dict[str, list[Requirement]]:
    """Of a lock, by names; several where platforms differ."""
    found: dict[str, list[Requirement]] = {}
    for one in PIN.finditer(lock.read_text("utf-8")):
        requirement = Requirement(one["requirement"])
        found.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return found


def installed_from(lock: Path) -> Python:
    """An environment of exactly what a lock says, each file compared with its hashes."""
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()[:8]
    return Python(f"locked-{lock.stem}-{digest}", ("--no-deps", "--verify-hashes", "-r", str(lock)))


@pytest.mark.parametrize("name", [*EXTRAS, "audit.txt", "loadtest.txt"])
def test_every_line_of_a_lock_is_a_version_with_hashes(name: str) -> None:
    text = (LOCKS / name).read_text("utf-8")
    rest = [line for line in PIN.sub("", text).splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert rest == []  # neither addresses of indexes, nor options, nor anything without a hash
    assert len(pins(LOCKS / name)) > 20
    assert "://" not in text


@pytest.mark.parametrize(("name", "extras"), EXTRAS.items())
def test_a_lock_has_what_pyproject_asks_for(name: str, extras: tuple[str, ...]) -> None:
    """`make lock` is due where it has not."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = pins(LOCKS / name)
    of_extras = [text for extra in extras for text in project["optional-dependencies"][extra]]
    for text in (*project["dependencies"], *of_extras):
        wanted = Requirement(text)
        if wanted.name == "embedserve":
            continue
        found = locked.get(canonicalize_name(wanted.name), [])
        assert found, f"{text} is not in the lock; run make lock"
        for pin in found:
            [exact] = pin.specifier
            assert wanted.specifier.contains(exact.version), f"{text}: the lock has {exact.version}; run make lock"


def report(*packages: dict[str, Any]) -> dict[str, Any]:
    return {"dependencies": list(packages), "fixes": []}


GOOD = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "skipped", "skip_reason": "not found"}


def test_a_package_that_was_not_looked_up_is_no_package_without_findings() -> None:
    assert judge(report(GOOD)).status == NOTHING_KNOWN
    assert judge(report(GOOD, BAD, SKIPPED)).status == FOUND
    assert judge(report(GOOD, SKIPPED)).status == NOT_ASKED
    assert judge(report()).status == NOT_ASKED
    assert "bad 2: PYSEC-1, mended in 3" in str(judge(report(GOOD, BAD)))


def test_an_audit_that_cannot_ask_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tool := tmp_path / "tool").write_text("#!/bin/sh\necho 'no route to host' >&2\nexit 1\n")
    tool.chmod(0o755)
    assert ask(tool, LOCKS / "server-cpu.txt").status == NOT_ASKED
    assert main([str(tool), str(LOCKS / "server-cpu.txt")]) == NOT_ASKED
    assert "could not be asked, which proves nothing: no route to host" in capsys.readouterr().out


@pytest.mark.heavy
def test_nothing_is_known_against_what_runs_the_server() -> None:
    verdict = ask(installed_from(LOCKS / "audit.txt").interpreter().parent / "pip-audit", LOCKS / "server-cpu.txt")
    if verdict.status == NOT_ASKED:
        pytest.skip(str(verdict))
    assert verdict.findings == ()


@pytest.mark.heavy
def test_the_bill_of_materials_lists_every_package(tmp_path: Path) -> None:
    """cyclonedx-py compares what it writes with CycloneDX's own schema."""
    tool, written = installed_from(LOCKS / "audit.txt").interpreter().parent / "cyclonedx-py", tmp_path / "sbom.json"
    own = [str(tool), "requirements", str(LOCKS / "server-cpu.txt"), "--pyproject", str(ROOT / "pyproject.toml")]
    subprocess.run([*own, "--validate", "-o", str(written)], check=True, capture_output=True, timeout=120)
    sbom = json.loads(written.read_text("utf-8"))
    assert (sbom["bomFormat"], sbom["metadata"]["component"]["name"]) == ("CycloneDX", "embedserve")
    listed = {canonicalize_name(one["name"]): one for one in sbom["components"]}
    assert listed.keys() == pins(LOCKS / "server-cpu.txt").keys()
    for one in listed.values():
        assert one["purl"].startswith("pkg:pypi/")
        assert one["externalReferences"][0]["hashes"][0]["alg"] == "SHA-256"
