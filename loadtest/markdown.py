"""Markdown: tables, and documents in which they are written anew between two marks."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from loadtest.command import MeasurementError


def table(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 1) -> str:
    """The first columns to the left, the others to the right."""
    rule = ["---" if i < text_columns else "---:" for i in range(len(head))]
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, rule, *rows))


def with_tables(document: str, tables: str, name: str) -> str:
    """The document with what is between its two marks of that name written anew. Raises MeasurementError where it has
    not both of them: what stands behind the first would be lost."""
    begin, end = f"<!-- {name} begin -->\n", f"<!-- {name} end -->"
    before, found_begin, rest = document.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise MeasurementError(f"the document has no lines {begin.strip()} and {end}, one after the other")
    return f"{before}{begin}{tables}{end}{after}"


def rewrite(path: Path, tables: str, name: str) -> None:
    """`with_tables` of a file. Raises MeasurementError, OSError."""
    path.write_text(with_tables(path.read_text("utf-8"), tables, name), "utf-8")


def page(name: str) -> Callable[[str], Path]:
    """For argparse: a document with marks of that name."""

    def parse(text: str) -> Path:
        path = Path(text)
        try:
            with_tables(path.read_text("utf-8"), "", name)
        except (MeasurementError, OSError, UnicodeDecodeError) as error:
            raise argparse.ArgumentTypeError(f"{text}: {error}") from None
        return path

    return parse
