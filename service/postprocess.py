"""Vectors on their way out, in one fixed order: cut to `dimensions`, normalise, quantise. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.choices import OutputDtype
from service.errors import InvalidInput
from service.types import Matrix

# torch.nn.functional.normalize's default, so that a zero vector stays zero instead of becoming NaN.
EPSILON = 1e-12


def normalize(vectors: Matrix) -> Matrix:
    """Each row (rows, dimensions) divided by its L2 norm."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Matrix = (vectors / np.maximum(norms, EPSILON)).astype(np.float32, copy=False)
    return result


def shorten(vectors: Matrix, dimensions: int | None, *, unit: bool = True) -> Matrix:
    """The first `dimensions` columns (Matryoshka Representation Learning, arXiv:2205.13147), of vectors of length one
    normalised again."""
    if dimensions is None or dimensions == vectors.shape[-1]:
        return vectors
    cut = vectors[:, :dimensions]
    return normalize(cut) if unit else cut


# The numbers of a unit vector of d dimensions spread around zero by 1/√d; this many spreads fill an int8. One in
# millions of them is larger, and a vector's cosine to its quantised self stays above 0.999.
_INT8_SPREADS = 8.0


def quantize(vectors: Matrix, dtype: OutputDtype) -> NDArray[Any]:
    """Unit rows (rows, d) → (rows, d) float32, int8 or uint8, or (rows, d/8) int8 or uint8 of packed bits.

    int8 is round(x · 127·√d/8), held to ±127; uint8 is that plus 128. One scale for all vectors of a model keeps
    dot products comparable. Bits are 1 where x > 0, the first dimension in the highest bit; ubinary has them as
    uint8, binary as int8 (minus 128), as Cohere, Voyage and Jina pack them. Bits need d to be a multiple of 8.
    """
    if dtype is OutputDtype.FLOAT:
        return vectors
    if dtype in (OutputDtype.BINARY, OutputDtype.UBINARY):
        bits = np.packbits(vectors > 0, axis=-1)
        return bits if dtype is OutputDtype.UBINARY else (bits.astype(np.int16) - 128).astype(np.int8)
    scale = 127.0 * np.sqrt(vectors.shape[-1]) / _INT8_SPREADS
    integers = np.clip(np.rint(vectors * scale), -127, 127).astype(np.int16)
    result: NDArray[Any] = integers.astype(np.int8) if dtype is OutputDtype.INT8 else (integers + 128).astype(np.uint8)
    return result


def check_packable(dtype: OutputDtype, dimensions: int) -> None:
    """Bits are packed eight to a byte. Raises InvalidInput."""
    if dtype in (OutputDtype.BINARY, OutputDtype.UBINARY) and dimensions % 8:
        raise InvalidInput(f"{dtype} needs dimensions in a multiple of 8, not {dimensions}.", "output_dtype")
