"""Vectors on their way out, in one fixed order: cut to `dimensions`, then normalise. Pure."""

from __future__ import annotations

import numpy as np

from service.types import Matrix

# torch.nn.functional.normalize's default, so that a zero vector stays zero instead of becoming NaN.
EPSILON = 1e-12


def normalize(vectors: Matrix) -> Matrix:
    """Each row (rows, dimensions) divided by its L2 norm."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Matrix = (vectors / np.maximum(norms, EPSILON)).astype(np.float32, copy=False)
    return result


def shorten(vectors: Matrix, dimensions: int | None) -> Matrix:
    """The first `dimensions` columns, normalised again (Matryoshka Representation Learning, arXiv:2205.13147)."""
    if dimensions is None or dimensions == vectors.shape[-1]:
        return vectors
    return normalize(vectors[:, :dimensions])
