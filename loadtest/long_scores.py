"""Ranks of the right documents → recall@1 and MRR, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2000

Numbers = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over queries, and its 95 % interval."""

    value: float
    low: float
    high: float

    def percent(self) -> str:
        """`61.3 (58.0–64.9)`."""
        return f"{100 * self.value:.1f} ({100 * self.low:.1f}–{100 * self.high:.1f})"

    def points(self) -> str:
        """A difference: `+1.3 (−0.2 to +2.9)`."""
        return f"{_signed(self.value)} ({_signed(self.low)} to {_signed(self.high)})"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def ranks(queries: Numbers, right: Positions, matrices: Sequence[Numbers]) -> Positions:
    """1 where queries[i] is nearest to a row of matrices[right[i]]; rows are of length one. Ties count against it."""
    starts = np.cumsum([0, *(len(matrix) for matrix in matrices[:-1])])
    scores = np.maximum.reduceat(queries @ np.concatenate(matrices).T, starts, axis=1)
    own = scores[np.arange(len(right)), right]
    found: Positions = (scores >= own[:, np.newaxis]).sum(axis=1)
    return found


def estimate(values: Numbers, clusters: Positions, seed: int = 0) -> Estimate:
    """Queries of one document are not independent of each other: whole documents are drawn again, not queries."""
    sums, counts = np.bincount(clusters, values), np.bincount(clusters)
    drawn = np.random.default_rng(seed).multinomial(len(counts), np.full(len(counts), 1 / len(counts)), _RESAMPLES)
    means = drawn @ sums / (drawn @ counts)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def recall(found: Positions) -> Numbers:
    """At 1."""
    hits: Numbers = (found == 1).astype(np.float64)
    return hits


def reciprocal(found: Positions) -> Numbers:
    """Whose mean is the MRR."""
    shares: Numbers = 1 / found
    return shares


def by_group(values: Numbers, groups: Sequence[Any] | Positions) -> dict[Any, float]:
    """Means, in the order in which the groups sort."""
    labels = np.asarray(groups)
    return {group.item(): float(values[labels == group].mean()) for group in np.unique(labels)}
