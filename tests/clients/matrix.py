"""The table of clients: who was tried, by which route, and how far its vectors were from the recorded ones.

A test that has a real client's vectors calls the fixture `record`; the rows travel on pytest's own reports, so they
reach the terminal from every worker, and are also in `--junit-xml`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np

from tests.e2e.process import Vectors, cosines

PROPERTY = "client"
LEAST_COSINE = 0.99999
Row = tuple[str, str, str, float]  # client, version, route, worst cosine


class Record(Protocol):
    """What the fixture `record` is."""

    def __call__(self, client: str, version: str, route: str, vectors: Any, expected: Vectors) -> None:
        """`vectors` (texts, dimensions) of any array-like kind. Fails the test when one is not as expected."""


def recorder(keep: Callable[[Row], None]) -> Record:
    """Compares, then hands a row to `keep`; a row is in the table even when its vectors are wrong."""

    def record(client: str, version: str, route: str, vectors: Any, expected: Vectors) -> None:
        found = np.asarray(vectors, dtype=np.float32)
        assert found.shape == expected.shape, f"{client}: {found.shape}, not {expected.shape}"
        worst = float(cosines(found, expected).min())
        keep((client, version, route, worst))
        assert worst >= LEAST_COSINE, f"{client} by {route}: worst cosine {worst}"

    return record


def table(rows: Iterable[Row]) -> list[str]:
    """Aligned lines with a head; none where there are no rows."""
    cells = [(client, version, route, f"{worst:.6f}") for client, version, route, worst in sorted(rows)]
    if not cells:
        return []
    lines = [("client", "version", "route", "worst cosine"), *dict.fromkeys(cells)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
