"""golden.json's numbers ↔ arrays: rows of numbers, or for sparse vectors those that are not 0 and their places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.bundle import Bundle, Golden
from service.encoder import Encoder
from service.types import Matrix

Numbers = tuple[tuple[float, ...], ...]
Places = tuple[tuple[int, ...], ...]


def run(encoder: Encoder, bundle: Bundle, rows: Sequence[Sequence[int]]) -> Matrix:
    """One vector a row: what the bundle's task gives; of vectors of tokens the first, middle and last, in line."""
    if bundle.task != "tokens":
        return encoder.run(rows)
    return np.stack([states[[0, len(states) // 2, -1]].ravel() for states in encoder.run_tokens(rows)])


def width(bundle: Bundle) -> int:
    """Of those vectors."""
    return 3 * bundle.dimensions if bundle.task == "tokens" else bundle.dimensions


def golden_matrix(golden: Golden, dimensions: int) -> Matrix:
    """(texts, dimensions); of another width where the numbers are not sparse. Raises ValueError for ragged ones."""
    if golden.indices is None:
        return np.array(golden.vectors, np.float32)
    matrix = np.zeros((len(golden.texts), dimensions), np.float32)
    for row, places, numbers in zip(matrix, golden.indices, golden.vectors, strict=True):
        row[list(places)] = numbers
    return matrix


def golden_rows(vectors: NDArray[Any], *, is_sparse: bool) -> tuple[Places | None, Numbers]:
    """`Golden`'s `indices` and `vectors`."""
    if not is_sparse:
        return None, _numbers(vectors)
    places = [np.flatnonzero(row) for row in vectors]
    held: Places = tuple(tuple(map(int, one)) for one in places)
    return held, _numbers([row[one] for row, one in zip(vectors, places, strict=True)])


def _numbers(rows: NDArray[Any] | Sequence[NDArray[Any]]) -> Numbers:
    return tuple(tuple(map(float, row)) for row in rows)
