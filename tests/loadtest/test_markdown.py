"""Tables, and documents that have a place for them."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from loadtest.command import MeasurementError
from loadtest.markdown import page, rewrite, table, with_tables

DOCUMENT = "a\n<!-- figures begin -->\nold\n<!-- figures end -->\nb\n"
WITHOUT_A_PLACE = ["a\nb\n", "a\n<!-- figures begin -->\nb\n", "<!-- figures end -->\n<!-- figures begin -->\nb\n"]


def test_tables_replace_what_stood_between_the_marks_and_nothing_else() -> None:
    once = with_tables(DOCUMENT, "new\n", "figures")
    assert once == DOCUMENT.replace("old", "new")
    assert with_tables(once, "new\n", "figures") == once


@pytest.mark.parametrize("document", WITHOUT_A_PLACE)
def test_a_document_without_a_place_for_tables_stays_as_it_is(document: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(document, "utf-8")
    with pytest.raises(MeasurementError, match="<!-- figures begin --> and <!-- figures end -->"):
        rewrite(path, "new\n", "figures")
    assert path.read_text("utf-8") == document


def test_a_page_is_looked_at_before_there_is_anything_to_write(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    with pytest.raises(argparse.ArgumentTypeError, match="No such file"):
        page("figures")(str(path))
    path.write_text(DOCUMENT, "utf-8")
    assert page("figures")(str(path)) == path
    with pytest.raises(argparse.ArgumentTypeError, match="<!-- others begin -->"):
        page("others")(str(path))


def test_numbers_stand_to_the_right() -> None:
    assert table(["name", "x"], [["a", "1"]]) == "| name | x |\n| --- | ---: |\n| a | 1 |\n"
