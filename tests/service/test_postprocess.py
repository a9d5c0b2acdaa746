"""Shortened and normalised vectors."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.choices import OutputDtype
from service.postprocess import normalize, quantize, shorten

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


units = arrays(np.float32, (4, 64), elements=st.floats(-1, 1, width=32)).map(normalize)


@given(units)
def test_int8_keeps_the_direction_and_uint8_is_the_same_moved(vectors: np.ndarray) -> None:
    scale = 127 * np.sqrt(64) / 8
    small = quantize(vectors, OutputDtype.INT8)
    assert small.dtype == np.int8
    within = np.abs(vectors) * scale <= 127
    assert np.abs(small / scale - vectors)[within].max(initial=0) <= 0.5 / scale + 1e-6
    assert (np.abs(small[~within]) == 127).all()
    moved = quantize(vectors, OutputDtype.UINT8)
    assert moved.dtype == np.uint8
    np.testing.assert_array_equal(moved.astype(int) - 128, small)


@given(units)
def test_bits_are_signs_with_the_first_dimension_highest(vectors: np.ndarray) -> None:
    packed = quantize(vectors, OutputDtype.UBINARY)
    assert packed.dtype == np.uint8
    assert packed.shape == (4, 8)
    np.testing.assert_array_equal(np.unpackbits(packed, axis=-1).astype(bool), vectors > 0)
    signed = quantize(vectors, OutputDtype.BINARY)
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(signed.astype(int) + 128, packed)


def test_floats_stay_as_they_are() -> None:
    vectors = np.eye(8, dtype=np.float32)
    assert quantize(vectors, OutputDtype.FLOAT) is vectors
