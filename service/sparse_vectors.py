"""Vectors of which most numbers are 0, as the others and their places. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.types import Matrix

SPARSE = np.dtype([("index", np.int32), ("value", np.float32)])

SparseVector = NDArray[Any]
"""(numbers above 0,) of SPARSE, by rising index."""


def sparse_rows(vectors: Matrix) -> list[SparseVector]:
    """(rows, dimensions), of which no number is below 0 → one for each row."""
    return [_made(places, row[places]) for row in vectors for places in [np.flatnonzero(row)]]


def maximum(vectors: Sequence[SparseVector]) -> SparseVector:
    """The largest number in each dimension."""
    if len(vectors) == 1:
        return vectors[0]
    joined = np.concatenate(vectors)
    places, which = np.unique(joined["index"], return_inverse=True)
    largest = np.zeros(len(places), np.float32)
    np.maximum.at(largest, which, joined["value"])
    return _made(places, largest)


def largest(vector: SparseVector, count: int | None) -> SparseVector:
    """Its `count` largest numbers; of equal ones those of lower index. None: all of them."""
    if count is None or len(vector) <= count:
        return vector
    kept: SparseVector = vector[np.sort(np.argsort(-vector["value"], kind="stable")[:count])]
    return kept


def _made(places: NDArray[Any], values: NDArray[Any]) -> SparseVector:
    vector = np.empty(len(places), SPARSE)
    vector["index"], vector["value"] = places, values
    return vector
