"""Vectors on the wire read back as the same float32."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.api.wire import (
    Encode,
    as_base64,
    as_numbers,
    as_one_list,
    in_turns,
    json_parts,
    lists_in_turns,
    rows_in_turns,
    to_json,
)

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


def joined(body: object) -> bytes:
    first, more = json_parts(body)
    return b"".join([first, *more])


def beside_others(write: Coroutine[Any, Any, Any]) -> tuple[bytes, int]:
    """What was written, and how many turns another task had meanwhile."""
    turns = 0

    async def run() -> bytes:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        written = joined(await write)
        beside.cancel()
        return written

    return asyncio.run(run()), turns


def test_large_matrices_are_written_whole_while_others_get_their_turns() -> None:
    """Otherwise one reply of hundreds of megabytes keeps everybody waiting, whoever asks for liveness too."""
    matrices = [np.random.default_rng(i).standard_normal((rows, 700), "f4") for i, rows in enumerate((0, 1, 1000, 300))]
    written, turns = beside_others(in_turns(matrices, as_numbers))
    assert written == to_json([as_numbers(one) for one in matrices])
    assert turns >= 9


@pytest.mark.parametrize("encode", [as_numbers, as_base64])
def test_rows_of_large_matrices_are_written_while_others_get_their_turns(encode: Encode) -> None:
    matrices = [np.random.default_rng(i).standard_normal((rows, 700), "f4") for i, rows in enumerate((0, 1, 1000, 300))]
    written, turns = beside_others(rows_in_turns(matrices, encode))
    assert written == to_json([encode(one) for one in matrices])
    assert turns >= 9


def test_small_ones_cost_no_turn() -> None:
    written, turns = beside_others(rows_in_turns([np.ones((2, 3), "f4"), np.zeros((0, 3), "f4")], as_numbers))
    assert (written, turns) == (b"[[[1.0,1.0,1.0],[1.0,1.0,1.0]],[]]", 0)


def test_all_numbers_in_one_list() -> None:
    matrix = np.random.default_rng(0).standard_normal((300, 700), "f4")
    written, turns = beside_others(in_turns([matrix, matrix[:, :2]], as_one_list))
    assert written == to_json([matrix.ravel(), np.ascontiguousarray(matrix[:, :2].ravel())])
    assert turns >= 2


def test_lists_are_made_and_written_while_others_get_their_turns() -> None:
    """To make them takes longer than to write them."""
    made = 0

    def make() -> Iterator[list[int]]:
        nonlocal made
        for _ in range(100):
            made += 1
            yield [0] * 1000

    async def run() -> int:
        writing = asyncio.create_task(lists_in_turns(make()))
        await asyncio.sleep(0)
        at_first = made
        await writing
        return at_first

    assert asyncio.run(run()) < 20
    assert made == 100
    lists = [list(range(size)) for size in (0, 1, 12_000, *[500] * 60)]
    written, turns = beside_others(lists_in_turns(lists))
    assert written == to_json(lists)
    assert turns >= 7


def test_what_is_large_is_put_in_its_place_without_being_copied() -> None:
    small, large = [to_json("\0" * size) for size in (2, 4000)]
    body = {"a": small, "b": [large, "\0", {"c": large}], "d": 1}
    first, more = json_parts(body)
    assert joined(body) == to_json({"a": "\0\0", "b": ["\0" * 4000, "\0", {"c": "\0" * 4000}], "d": 1})
    assert [part is large for part in (first, *more)] == [False, True, False, True, False]
    assert json_parts([small, small]) == (to_json(["\0\0"] * 2), ())
    with pytest.raises(TypeError):
        json_parts({"a": object()})
