"""Weights → 8 bits, and what a step of 8 bits is worth in the values that meet them. Pure numpy.

A product of float32 becomes one of integers: activations uint8, weights int8, sums int32. Every activation channel k
has a unit u_k, so that x_k = u_k · (code_k − 128); every column n of the weight a scale s_n:

    Σ_k x_k W_kn = s_n Σ_k (code_k − 128) · q_kn        where q_kn ≈ u_k W_kn / s_n

So units cost nothing at run time: they are part of the weights. They are chosen as SmoothQuant does (Xiao et al.,
2022): a channel of large activations and small weights hands some of its size over to the weights, for a few such
channels would leave all others only a few of the 256 steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.weights import Array

STEPS = 127
"""From the zero point to either end."""

MIDDLE = 128
"""The zero point of codes whose values are as often negative as positive."""

# How much of a channel's size stays with the activations. From 0.6 to 0.85 the vectors are equally good; at 0.5
# and at 1 they are clearly worse (docs/PERFORMANCE.md).
_MIGRATION = 0.7

_SMALLEST = 1e-5  # of the largest: channels that are never used are not divided by zero


@dataclass(frozen=True, slots=True)
class Columns:
    """A weight: codes (in, out) from −127 to 127, times scales (out,)."""

    codes: NDArray[np.int8]
    scales: Array


def columns(weight: Array) -> Columns:
    """(in, out), each column rounded in steps of a 127th of its own largest value."""
    largest = np.abs(weight).max(axis=0)
    scales = np.where(largest > 0, largest / STEPS, 1).astype(np.float32)
    return Columns(np.rint(weight / scales).astype(np.int8), scales)


def units(peaks: Array, weight: Array) -> Array:
    """(in,): what one step is worth in each channel of the values that `weight` (in, out) will multiply.

    `peaks` (in,) is the largest absolute value seen of each channel. Each fits into 127 steps, one of them just so.
    """
    seen, read = _positive(peaks), _positive(np.abs(weight).max(axis=1))
    share = seen**_MIGRATION / read ** (1 - _MIGRATION)
    found: Array = (share * (seen / share).max() / STEPS).astype(np.float32)
    return found


def _positive(values: Array) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    positive: NDArray[np.float64] = np.maximum(wide, _SMALLEST * max(wide.max(), _SMALLEST))
    return positive
