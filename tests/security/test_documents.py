"""The documents name tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"\btests/[\w/]+(?:\.py)?")


@pytest.mark.parametrize("name", ["SECURITY.md", "docs/RESILIENCE.md"])
def test_every_test_that_is_named_exists(name: str) -> None:
    named = set(NAMED.findall((ROOT / name).read_text("utf-8")))
    assert len(named) > 5
    assert {path for path in named if not (ROOT / path).exists()} == set()


def test_every_control_names_what_shows_it() -> None:
    document = (ROOT / "SECURITY.md").read_text("utf-8")
    table = document.split("## What stands against it")[1].split("## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row for row in rows if "tests/" not in row.split("|")[-2]] == []
