"""What the graph is fed."""

from __future__ import annotations

import numpy as np
import pytest

from service.encoder import check_vectors, padded_feeds
from service.errors import BadVectors
from service.types import TwoPartRow

ROWS = [[5, 6, 7], TwoPartRow([8, 9, 10, 11], 3), [12]]


def test_rows_are_padded_on_the_right_and_masked() -> None:
    feeds = padded_feeds(ROWS, ("input_ids", "attention_mask"), 1)
    assert feeds["input_ids"].tolist() == [[5, 6, 7, 1], [8, 9, 10, 11], [12, 1, 1, 1]]
    assert feeds["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]


def test_the_second_text_of_a_pair_has_type_1_and_padding_has_none() -> None:
    feeds = padded_feeds([*ROWS, TwoPartRow([1, 2], 1)], ("input_ids", "attention_mask", "token_type_ids"), 0)
    assert feeds["token_type_ids"].tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]]


def test_what_pooling_leaves_out_is_no_second_text() -> None:
    inputs = ("input_ids", "attention_mask", "token_type_ids", "pooling_mask")
    feeds = padded_feeds(ROWS, inputs, 0)
    assert feeds["pooling_mask"].tolist() == [[1, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert feeds["attention_mask"][1].tolist() == [1, 1, 1, 1]
    assert not np.any(feeds["token_type_ids"])


@pytest.mark.parametrize("split", [0, 4])
def test_a_row_of_two_parts_is_its_ids_and_its_split(split: int) -> None:
    row = TwoPartRow(range(4), split)
    assert (row.tolist(), row.split) == ([0, 1, 2, 3], split)


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0])
def test_rows_that_are_no_vectors_are_named(shape: tuple[int, ...], value: float) -> None:
    vectors = np.ones(shape, np.float32)
    check_vectors(vectors, may_be_zero=False)
    vectors[1] = vectors[3] = value
    with pytest.raises(BadVectors) as bad:
        check_vectors(vectors, may_be_zero=False)
    assert bad.value.rows == (1, 3)
    assert bad.value.detail.endswith("zero" if value == 0 else "not finite")


def test_one_number_is_enough_and_a_single_zero_is_not() -> None:
    vectors = np.eye(3, dtype=np.float32)
    check_vectors(vectors, may_be_zero=False)
    vectors[2, 0] = np.nan
    with pytest.raises(BadVectors) as bad:
        check_vectors(vectors, may_be_zero=True)
    assert bad.value.rows == (2,)


def test_zero_may_be_an_answer() -> None:
    check_vectors(np.zeros((2, 3), np.float32), may_be_zero=True)
