"""Sparse vectors as indices and numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from service.sparse_vectors import SparseVector, largest, maximum, sparse_rows

WIDTH = 12
MATRICES = arrays(np.float32, st.tuples(st.integers(1, 5), st.just(WIDTH)), elements=st.sampled_from([0, 0, 0.5, 1, 3]))


def dense(vector: SparseVector) -> NDArray[np.float32]:
    whole = np.zeros(WIDTH, np.float32)
    whole[vector["index"]] = vector["value"]
    return whole


@given(MATRICES)
def test_rows_hold_what_is_not_zero_by_rising_index(matrix: NDArray[np.float32]) -> None:
    for row, sparse in zip(matrix, sparse_rows(matrix), strict=True):
        np.testing.assert_array_equal(dense(sparse), row)
        assert (sparse["value"] != 0).all()
        assert (np.diff(sparse["index"]) > 0).all()


@given(MATRICES)
def test_the_maximum_is_that_of_each_dimension(matrix: NDArray[np.float32]) -> None:
    combined = maximum(sparse_rows(matrix))
    np.testing.assert_array_equal(dense(combined), matrix.max(axis=0))
    assert (np.diff(combined["index"]) > 0).all()


@given(MATRICES, st.integers(1, WIDTH))
def test_the_largest_are_kept_in_their_places(matrix: NDArray[np.float32], count: int) -> None:
    whole = sparse_rows(matrix)[0]
    kept = largest(whole, count)
    assert len(kept) == min(count, len(whole))
    assert sorted(kept["value"]) == sorted(whole["value"])[len(whole) - len(kept) :]
    assert (np.diff(kept["index"]) > 0).all()
    assert all(one in whole for one in kept)
    assert largest(whole, None) is whole
