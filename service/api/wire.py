"""Vectors → the bytes that stand for them in a reply."""

from __future__ import annotations

import sys
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.sparse_vectors import SparseVector


def to_json(body: object) -> bytes:
    """orjson writes float32 arrays in the shortest form that reads back as the same float32."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


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
