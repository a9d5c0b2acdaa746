"""Vectors → the bytes that stand for them in a reply."""

from __future__ import annotations

import asyncio
import sys
from binascii import b2a_base64
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from service.choices import OutputDtype
from service.postprocess import quantize
from service.sparse_vectors import SparseVector

Encode = Callable[[NDArray[Any]], Sequence[Any]]
"""Rows → what `to_json` writes in their place."""

EmbeddingType = Literal["float", "base64", "int8", "uint8", "binary", "ubinary"]
"""What vectors are written as, in the words of Cohere and Jina."""

_NUMBERS_A_TURN = 100_000  # some 5 ms
_ITEMS_A_TURN = 5_000  # objects, as much
_COPIED = 4096  # bytes: what is written and no longer than that is copied into the body around it
_NUL = b"\0"  # which is not in JSON
_HOLE = orjson.Fragment(_NUL)
_size = attrgetter("size")


def to_json(body: object) -> bytes:
    """orjson writes float32 arrays in the shortest form that reads back as the same float32."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def json_parts(body: object) -> tuple[bytes, Sequence[bytes]]:
    """`to_json`, as its beginning and what follows: what was written before (bytes) is put in its place, and not copied
    where it is large."""
    large: list[bytes] = []

    def put(written: object) -> orjson.Fragment:
        if not isinstance(written, bytes):
            raise TypeError
        if len(written) <= _COPIED:
            return orjson.Fragment(written)
        large.append(written)
        return _HOLE

    around = orjson.dumps(body, put, orjson.OPT_SERIALIZE_NUMPY)
    if not large:
        return around, ()
    first, *parts = around.split(_NUL)
    return first, [one for pair in zip(large, parts, strict=True) for one in pair]


async def rows_in_turns(matrices: Sequence[NDArray[Any]], encode: Encode) -> list[Sequence[Any]]:
    """What `encode` makes of each matrix's rows, for `json_parts`. Those of large matrices are written here already,
    some at a time, and others get their turn in between: a reply may have hundreds of megabytes, and orjson holds the
    interpreter's lock, so that a thread would be no help."""
    if sum(map(_size, matrices)) <= _NUMBERS_A_TURN:
        return list(map(encode, matrices))
    found: list[list[bytes]] = [[] for _ in matrices]
    async for place, rows in _some_at_a_time(matrices, encode):
        found[place] += map(to_json, rows)
    return list(found)


async def in_turns(matrices: Sequence[NDArray[Any]], encode: Encode) -> list[bytes]:
    """Each matrix as `to_json` writes its encoded rows, for `json_parts`, in turns as above: where rows are so many
    that each must not be an object of its own."""
    found: list[list[bytes]] = [[] for _ in matrices]
    async for place, rows in _some_at_a_time(matrices, encode):
        found[place].append(to_json(rows)[1:-1])
    return [_list_of(parts) for parts in found]


async def _some_at_a_time(matrices: Sequence[NDArray[Any]], encode: Encode) -> AsyncIterator[tuple[int, Sequence[Any]]]:
    """Encoded rows, and the place of their matrix. Whoever takes them writes them before the next ones."""
    numbers = 0
    for place, matrix in enumerate(matrices):
        step = max(1, _NUMBERS_A_TURN // max(1, matrix.shape[1]))
        for begin in range(0, len(matrix), step):
            rows = matrix[begin : begin + step]
            if numbers + rows.size > _NUMBERS_A_TURN:
                await asyncio.sleep(0)
                numbers = 0
            numbers += rows.size
            yield place, encode(rows)


def _list_of(parts: Sequence[bytes]) -> bytes:
    """A list, of its items as they stand between its brackets. Copied once, as it may be large."""
    between = [b","] * (2 * len(parts) - 1)
    between[::2] = parts
    return b"".join([b"[", *between, b"]"])


async def lists_in_turns(lists: Iterable[Sequence[Any]]) -> list[bytes]:
    """Each as `to_json` writes it, for `json_parts`, some thousand items a turn; what makes the lists as they are asked
    for has its turns as well."""
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
        found.append(_list_of(parts))
    return found


def as_numbers(vectors: NDArray[Any]) -> Sequence[Any]:
    """Rows, of any dtype, that `to_json` writes as lists of numbers."""
    return list(np.ascontiguousarray(vectors))


def as_one_list(vectors: NDArray[Any]) -> Sequence[Any]:
    """All their numbers, that `to_json` writes as one list."""
    return as_numbers(vectors.reshape(1, -1))[0]  # type: ignore[no-any-return]


def as_type(kind: EmbeddingType, vectors: NDArray[np.float32]) -> Sequence[Any]:
    """As numbers of that type, or as the base64 of float32."""
    return as_base64(vectors) if kind == "base64" else as_numbers(quantize(vectors, OutputDtype(kind)))


def as_weights(vector: SparseVector) -> Sequence[Any]:
    """What `to_json` writes as a list of {index, value}."""
    return [{"index": i, "value": value} for i, value in zip(vector["index"].tolist(), vector["value"], strict=True)]


def as_base64(vectors: NDArray[Any]) -> list[str]:
    """Rows as the bytes of their dtype, little-endian: OpenAI's `encoding_format: "base64"` for float32."""
    if sys.byteorder == "big":
        vectors = vectors.byteswap()
    return [b2a_base64(row, newline=False).decode("ascii") for row in np.ascontiguousarray(vectors)]
