"""Vectors → the bytes that stand for them in a reply."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from service.types import Matrix


def to_json(body: object) -> bytes:
    """orjson writes float32 arrays in the shortest form that reads back as the same float32."""
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def as_floats(vectors: Matrix) -> Sequence[Any]:
    """Rows that `to_json` writes as lists of numbers."""
    return list(np.ascontiguousarray(vectors, dtype=np.float32))


def as_base64(vectors: Matrix) -> list[str]:
    """Rows as little-endian float32, as OpenAI's `encoding_format: "base64"`."""
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in vectors.astype("<f4", copy=False)]
