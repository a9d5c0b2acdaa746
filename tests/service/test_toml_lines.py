"""Where a key stands in a TOML file."""

from __future__ import annotations

from service.toml_lines import line_of

TEXT = """a = 1
[ table . inner ]
b = 2
[[ models ]]
c = 3
[[models]]
[models . late]
d = 4
"""


def test_tables_are_found_however_they_are_spaced() -> None:
    assert line_of(TEXT, None, 0, "a") == 1
    assert line_of(TEXT, None, 0, "table") == 2
    assert line_of(TEXT, "models", 0, "c") == 5
    assert line_of(TEXT, "models", 1, "late") == 7
    assert line_of(TEXT, "models", 1, "c") == 6
    assert line_of(TEXT, "models", 2, "c") is None


def test_a_long_line_takes_no_time() -> None:
    """5,000 spaces behind a bracket once took two minutes."""
    assert line_of("[" + " " * 100_000 + "\na = 1", None, 0, "a") == 2
