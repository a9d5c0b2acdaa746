"""The matrix as a table in docs/MODELS.md, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.parity.families.matrix import Result, floor
from tests.parity.families.rows import Row

DOCUMENT = Path(__file__).parents[3] / "docs" / "MODELS.md"
BEGIN, END = "<!-- matrix: begin, written by `make matrix` -->", "<!-- matrix: end -->"
_HEAD = ("family", "model_type", "route", "pooling", "tokenizer", "special about it", "worst cosine")


def describe(row: Row) -> tuple[str, ...]:
    """A row's cells but for the measured one."""
    pooling = row.pooling if isinstance(row.pooling, str) else " + ".join(row.pooling)
    return row.family, f"`{row.config['model_type']}`", row.route, pooling, row.tokenizer, row.note


def write(results: Sequence[Result]) -> None:
    """Puts the table of all rows in its place."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line([*describe(one.row), floor(one.cosine)]) for one in results]
    before, _, rest = DOCUMENT.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{after}"]), "utf-8")


def read() -> list[tuple[str, ...]]:
    """The cells of each row in the document, as text."""
    between = DOCUMENT.read_text("utf-8").partition(BEGIN)[2].partition(END)[0]
    lines = between.strip().splitlines()[2:]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
