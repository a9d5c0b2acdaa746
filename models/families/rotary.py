"""Rotary positions (Su et al., 2021): queries and keys are turned by angles that grow with their place.

Features i and i + head_size / 2 of a head make a pair, turned by place · frequency_i, as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.families.family import refused
from models.graph import CONTRIB, Graph
from models.weights import Array


@dataclass(frozen=True, slots=True)
class Rotary:
    """How fast each pair turns: θ^(−2i / head_size), where `ntk_factor` is 1."""

    theta: float
    ntk_factor: float = 1.0

    def frequencies(self, head_size: int) -> Array:
        """(head_size / 2,). The fixed NTK scaling is that of GTE's own code: both θ and all frequencies are scaled."""
        exponents = np.arange(0, head_size, 2, dtype=np.float32) / np.float32(head_size)
        plain = np.float32(1) / np.float32(self.theta * self.ntk_factor) ** exponents
        found: Array = plain / np.float32(self.ntk_factor ** (2 / head_size))
        return found


def read_rotary(config: Mapping[str, Any], default_theta: float) -> Rotary:
    """From `rope_parameters`, or from `rope_theta` and `rope_scaling` as older files have them.

    Raises CheckpointError for a scaling that is not understood.
    """
    found = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    kind = found.get("rope_type", found.get("type", "default"))
    theta = found.get("rope_theta", config.get("rope_theta"))
    theta = default_theta if theta is None else theta
    if not isinstance(theta, int | float) or theta <= 0:
        raise refused(f"rope_theta is {theta!r}, not a positive number")
    if found.get("partial_rotary_factor", 1) != 1:
        raise refused("partial_rotary_factor (only some features turned) is not supported")
    if kind == "default":
        return Rotary(theta)
    if kind == "ntk" and found.get("mixed_b") is None and isinstance(found.get("factor"), int | float):
        return Rotary(theta, float(found["factor"]))
    raise refused(f"rope_type {kind} with {found} is not supported (default is, and ntk with a factor)")


class Turning:
    """The operation, with its tables of angles in the graph."""

    def __init__(self, graph: Graph, rotary: Rotary, positions: int, heads: int, head_size: int, name: str) -> None:
        self._graph = graph
        self._heads = heads
        angles = np.outer(np.arange(positions, dtype=np.float32), rotary.frequencies(head_size))
        self._cos, self._sin = (
            graph.constant(part.astype(np.float32), f"{name}.{part_name}")
            for part, part_name in ((np.cos(angles), "cos"), (np.sin(angles), "sin"))
        )
        self._from_zero = graph.constant(np.array([0]))

    def turn(self, value: str) -> str:
        """(rows, length, heads · head_size) → the same."""
        tables = self._from_zero, self._cos, self._sin
        return self._graph.op("RotaryEmbedding", value, *tables, domain=CONTRIB, num_heads=self._heads)
