"""Tries every row and writes the table in docs/MODELS.md. `python -m tests.parity.families NAME …`: prints some."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.parity.families import matrix, table
from tests.parity.families.rows import ROWS, Row


def main() -> None:
    chosen = [row for row in ROWS if not sys.argv[1:] or row.name in sys.argv[1:]]
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        matrix.make_checkpoints(chosen, folder)
        results = [_tried(row, folder) for row in chosen]
    worst = min(results, key=lambda one: one.cosine)
    if worst.cosine < matrix.MINIMUM_COSINE:
        raise SystemExit(f"{worst.row.name} is wrong: the table stays as it is")
    if len(chosen) == len(ROWS):
        table.write(results)
        print(f"wrote {table.DOCUMENT}")


def _tried(row: Row, folder: Path) -> matrix.Result:
    server = matrix.server_of(matrix.compile_row(row, folder), folder / f"{row.name}.server")
    try:
        result = matrix.measure(row, server, folder)
    finally:
        server.stop()
    print(
        f"{row.name}: cosine {matrix.floor(result.cosine)}, {matrix.floor(result.batch_cosine)} in a batch", flush=True
    )
    return result


main()
