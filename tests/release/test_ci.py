"""What CI runs leaves no test out."""

from __future__ import annotations

import re
import subprocess

from deploy.release import ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_folders_that_are_not_looked_through_for_heavy_tests_have_none() -> None:
    ignored = re.findall(r"--ignore=(\S+)", MAKEFILE)
    assert ignored
    for folder in ignored:
        assert [path for path in (ROOT / folder).rglob("test_*.py") if "mark.heavy" in path.read_text("utf-8")] == []


def test_ci_runs_the_fast_before_the_slow() -> None:
    commands = re.findall(r"^make (\S+)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.M)
    assert commands == ["lint", "types", "test", "test-clients"]


def test_the_wheel_is_built_by_the_locked_backend() -> None:
    """As the image's is; an isolated build takes the newest of the index."""
    told = ["make", "--dry-run", "--always-make", "dist"]
    said = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--require-hashes -r deploy/requirements/build.txt" in said
    assert "-m build --no-isolation " in said
