"""Vectors on the wire read back as the same float32."""

from __future__ import annotations

import base64
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.api.wire import as_base64, as_numbers, to_json

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
matrices = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 9)), elements=finite)


@given(matrices)
def test_numbers_round_trip(matrix: np.ndarray) -> None:
    found = np.array(json.loads(to_json(as_numbers(matrix))), dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(found, matrix)


@given(matrices)
def test_base64_is_little_endian_float32(matrix: np.ndarray) -> None:
    found = np.stack([np.frombuffer(base64.b64decode(row), dtype="<f4") for row in as_base64(matrix)])
    np.testing.assert_array_equal(found, matrix)


def test_columns_cut_off_a_matrix_are_written_whole() -> None:
    cut = np.arange(12, dtype=np.float32).reshape(3, 4)[:, :2]
    assert json.loads(to_json(as_numbers(cut))) == [[0, 1], [4, 5], [8, 9]]
    assert base64.b64decode(as_base64(cut)[1]) == np.array([4, 5], dtype="<f4").tobytes()
