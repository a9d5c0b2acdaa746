"""Shortened and normalised vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.postprocess import normalize, shorten

matrices = arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 16)), elements=st.floats(-8, 8, width=32))


@given(matrices)
def test_rows_have_length_one_or_stay_zero(matrix: np.ndarray) -> None:
    result = normalize(matrix)
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    for before, after in zip(matrix, result, strict=True):
        norm = float(np.linalg.norm(before.astype(np.float64)))
        if norm > 1e-6:
            np.testing.assert_allclose(after, before / norm, atol=1e-5)


@given(matrices, st.data())
def test_shortened_rows_are_the_first_columns_normalised_again(matrix: np.ndarray, data: st.DataObject) -> None:
    dimensions = data.draw(st.integers(1, matrix.shape[1] - 1)) if matrix.shape[1] > 1 else None
    if dimensions is not None:
        np.testing.assert_array_equal(shorten(matrix, dimensions), normalize(matrix[:, :dimensions]))


@given(matrices)
def test_no_or_full_dimensions_change_nothing(matrix: np.ndarray) -> None:
    assert shorten(matrix, None) is matrix
    assert shorten(matrix, matrix.shape[1]) is matrix
