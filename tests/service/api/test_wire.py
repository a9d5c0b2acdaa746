"""Vectors on the wire read back as the same float32."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Coroutine, Iterator
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from orjson import Fragment

from service.api.wire import as_base64, as_numbers, in_turns, lists_in_turns, to_json

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


def beside_others(write: Coroutine[Any, Any, list[Fragment]]) -> tuple[bytes, int]:
    """What was written, and how many turns another task had meanwhile."""
    turns = 0

    async def run() -> bytes:
        async def others() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(others())
        written = to_json(await write)
        beside.cancel()
        return written

    return asyncio.run(run()), turns


def test_large_matrices_are_written_whole_while_others_get_their_turns() -> None:
    """Otherwise one reply of hundreds of megabytes keeps everybody waiting, whoever asks for liveness too."""
    matrices = [np.random.default_rng(i).standard_normal((rows, 700), "f4") for i, rows in enumerate((0, 1, 1000, 300))]
    written, turns = beside_others(in_turns(matrices, as_numbers))
    assert written == to_json([as_numbers(one) for one in matrices])
    assert turns >= 9


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
