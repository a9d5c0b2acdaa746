"""The recorder of the table of clients can fail."""

from __future__ import annotations

import numpy as np
import pytest

from tests.clients.matrix import Row, recorder, table

EXPECTED = np.eye(3, dtype=np.float32)


def test_wrong_vectors_fail_and_are_in_the_table() -> None:
    rows: list[Row] = []
    with pytest.raises(AssertionError, match="worst cosine"):
        recorder(rows.append)("sdk", "1.0", "/route", EXPECTED[::-1], EXPECTED)
    assert [line.split() for line in table(rows)][1] == ["sdk", "1.0", "/route", "0.000000"]


def test_another_shape_fails() -> None:
    with pytest.raises(AssertionError, match=r"\(2, 3\), not \(3, 3\)"):
        recorder(lambda row: None)("sdk", "1.0", "/route", EXPECTED[:2], EXPECTED)


def test_no_rows_no_table() -> None:
    assert table([]) == []
