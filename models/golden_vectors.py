"""golden.json's numbers ↔ arrays: rows of numbers, or for sparse vectors those that are not 0 and their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle

Numbers = tuple[tuple[float, ...], ...]
Places = tuple[tuple[int, ...], ...]


def width(bundle: Bundle) -> int:
    """Of those vectors."""
    return 3 * bundle.dimensions if bundle.task == "tokens" else bundle.dimensions


def golden_rows(vectors: NDArray[Any], *, is_sparse: bool) -> tuple[Places | None, Numbers]:
    """`Golden`'s `indices` and `vectors`."""
    if not is_sparse:
        return None, _numbers(vectors)
    places = [np.flatnonzero(row) for row in vectors]
    held: Places = tuple(tuple(map(int, one)) for one in places)
    return held, _numbers([row[one] for row, one in zip(vectors, places, strict=True)])


def _numbers(rows: NDArray[Any] | Sequence[NDArray[Any]]) -> Numbers:
    return tuple(tuple(map(float, row)) for row in rows)
