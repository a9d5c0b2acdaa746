"""Vectors → the bytes that stand for them in a reply."""

from __future__ import annotations

import asyncio
import sys
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.sparse_vectors import SparseVector

_NUMBERS_A_TURN = 100_000  # some 10 ms
_ITEMS_A_TURN = 5_000  # objects, as much


def to_json(body: object) -> bytes:
    """orjson writes float32 arrays in the shortest form that reads back as the same float32."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


async def in_turns(
    matrices: Sequence[NDArray[Any]], encode: Callable[[NDArray[Any]], Sequence[Any]]
) -> list[orjson.Fragment]:
    """Each matrix as `to_json` writes its encoded rows. Between every few rows others get their turn: a reply may have
    hundreds of megabytes, and orjson holds the interpreter's lock, so that a thread would be no help."""
    found, numbers = [], 0
    for matrix in matrices:
        step = max(1, _NUMBERS_A_TURN // max(1, matrix.shape[1]))
        parts = []
        for begin in range(0, len(matrix), step):
            rows = matrix[begin : begin + step]
            if numbers + rows.size > _NUMBERS_A_TURN:
                await asyncio.sleep(0)
                numbers = 0
            numbers += rows.size
            parts.append(to_json(encode(rows))[1:-1])
        found.append(orjson.Fragment(b"[" + b",".join(parts) + b"]"))
    return found


async def lists_in_turns(lists: Iterable[Sequence[Any]]) -> list[orjson.Fragment]:
    """Each as `to_json` writes it, some thousand items a turn; what makes the lists as they are asked for has its turns
    as well."""
    found, items = [], 0
    for one in lists:
        parts = []
        for begin in range(0, len(one), _ITEMS_A_TURN):
            some = one[begin : begin + _ITEMS_A_TURN]
            if items + len(some) > _ITEMS_A_TURN:
                await asyncio.sleep(0)
                items = 0
            items += len(some)
            parts.append(to_json(some)[1:-1])
        found.append(orjson.Fragment(b"[" + b",".join(parts) + b"]"))
    return found


def as_numbers(vectors: NDArray[Any]) -> Sequence[Any]:
    """Rows, of any dtype, that `to_json` writes as lists of numbers."""
    return list(np.ascontiguousarray(vectors))


def as_weights(vector: SparseVector) -> Sequence[Any]:
    """What `to_json` writes as a list of {index, value}."""
    return [{"index": i, "value": value} for i, value in zip(vector["index"].tolist(), vector["value"], strict=True)]


def as_base64(vectors: NDArray[Any]) -> list[str]:
    """Rows as the bytes of their dtype, little-endian: OpenAI's `encoding_format: "base64"` for float32."""
    if sys.byteorder == "big":
        vectors = vectors.byteswap()
    return [b2a_base64(row, newline=False).decode("ascii") for row in np.ascontiguousarray(vectors)]
