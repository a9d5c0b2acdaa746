"""Tiny files of word vectors, in every format."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.weights import Array

WORDS = ["the", "mill", "river", "new_york", "don't", "state-of-the-art", ",", "naïve", "磨坊"]
DIMENSIONS = 6


def rows(count: int = len(WORDS), dimensions: int = DIMENSIONS, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(0, 1, (count, dimensions)).astype(np.float32)


def text(words: Sequence[str], vectors: Array, header: str = "") -> bytes:
    lines = [f"{word} {' '.join(repr(float(x)) for x in row)}\n" for word, row in zip(words, vectors, strict=True)]
    return (header + "".join(lines)).encode()


def header(vectors: Array) -> str:
    return f"{len(vectors)} {vectors.shape[1]}\n"


def binary(words: Sequence[bytes], vectors: Array, line_feed: bytes = b"\n") -> bytes:
    pairs = zip(words, vectors, strict=True)
    return header(vectors).encode() + b"".join(word + b" " + row.tobytes() + line_feed for word, row in pairs)


def fasttext(
    words: Sequence[str],
    vectors: Array,
    *,
    shortest: int = 2,
    longest: int = 4,
    buckets: int = 50,
    model: int = 2,
    version: int = 12,
    quantised: bool = False,
    pruned: int = -1,
) -> bytes:
    """`vectors` are the words' rows and then the buckets'."""
    size = vectors.shape[1]
    parts = [struct.pack("<2i", 793_712_314, version)]
    parts.append(struct.pack("<12id", size, 5, 5, 1, 5, 1, 2, model, buckets, shortest, longest, 100, 1e-4))
    parts.append(struct.pack("<3i2q", len(words), len(words), 0, 100, pruned))
    parts += [word.encode() + b"\0" + struct.pack("<qb", 7, 0) for word in words]
    parts.append(struct.pack("<?2q", quantised, len(vectors), size))
    return b"".join(parts) + vectors.tobytes()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
