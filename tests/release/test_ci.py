"""What CI runs leaves no test out."""

from __future__ import annotations

import re

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
