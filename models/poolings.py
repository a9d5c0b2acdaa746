"""Token vectors → one vector, in the graph. Rows are padded on the right only.

Over the tokens that count, i = 1 … n, at the places pᵢ of their row, counted from 1:

    cls                   x₁
    max                   maxᵢ xᵢ, in each dimension
    mean                  Σ xᵢ / n
    mean_sqrt_len_tokens  Σ xᵢ / √n
    weightedmean          Σ pᵢ·xᵢ / Σ pᵢ
    lasttoken             xₙ

Where a prompt does not count, the places still do: sentence-transformers leaves the weights of the others as they were.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from onnx import TensorProto

from models.graph import Graph
from models.modules import Pooling
from service.bundle import PoolingMode


def pool(graph: Graph, hidden: str, mask: str, pooling: Pooling) -> str:
    """`hidden` (rows, length, hidden), `mask` (rows, length) int64 → (rows, modes · hidden).

    Declares the input `pooling_mask` where the prompt does not count.
    """
    counted = mask if pooling.include_prompt else graph.input("pooling_mask")
    pools = _Pools(graph, hidden, mask, counted)
    found = [pools.of(mode) for mode in pooling.modes]
    return graph.op("Concat", *found, axis=-1) if len(found) > 1 else found[0]


class _Pools:
    """What the modes of one graph have in common is computed once."""

    def __init__(self, graph: Graph, hidden: str, mask: str, counted: str) -> None:
        """Both masks are (rows, length) int64: 1 where there is a token, and where it counts."""
        self._graph = graph
        self._hidden = hidden
        self._mask = mask
        self._counted = counted

    def of(self, mode: PoolingMode) -> str:
        """(rows, hidden)."""
        op = self._graph.op
        match mode:
            case "cls":
                return self._first()
            case "max":
                lowest = self._float(-1e9)
                shown = self._graph.cast(self._unsqueezed(self._counted), TensorProto.BOOL)
                return self._graph.reduce("ReduceMax", op("Where", shown, self._hidden, lowest), 1)
            case "mean":
                return op("Div", self._total, self._count)
            case "mean_sqrt_len_tokens":
                return op("Div", self._total, op("Sqrt", self._count))
            case "weightedmean":
                return self._weighted_mean()
            case "lasttoken":
                return self._last()

    @cached_property
    def _kept(self) -> str:
        """(rows, length, 1) float32."""
        return self._graph.cast(self._unsqueezed(self._counted), TensorProto.FLOAT)

    @cached_property
    def _total(self) -> str:
        """(rows, hidden)."""
        return self._graph.reduce("ReduceSum", self._graph.op("Mul", self._hidden, self._kept), 1)

    @cached_property
    def _count(self) -> str:
        """(rows, 1)."""
        return self._graph.op("Max", self._graph.reduce("ReduceSum", self._kept, 1), self._float(1e-9))

    @cached_property
    def _places(self) -> str:
        """(rows, length) int64: 1, 2, 3 …"""
        return self._graph.op("CumSum", self._mask, self._graph.constant(np.array(1)))

    def _weighted_mean(self) -> str:
        op = self._graph.op
        places = self._graph.cast(self._unsqueezed(self._places), TensorProto.FLOAT)
        weights = op("Mul", places, self._kept)  # (rows, length, 1)
        total = self._graph.reduce("ReduceSum", op("Mul", self._hidden, weights), 1)
        return op("Div", total, op("Max", self._graph.reduce("ReduceSum", weights, 1), self._float(1e-9)))

    def _first(self) -> str:
        if self._counted == self._mask:
            return self._graph.op("Gather", self._hidden, self._graph.constant(np.array(0)), axis=1)
        counted = self._graph.cast(self._counted, TensorProto.INT32)  # of int64 there is no ArgMax
        return self._at(self._graph.op("ArgMax", counted, axis=1, keepdims=1))

    def _last(self) -> str:
        """The highest place that counts, from 1."""
        places = self._graph.op("Mul", self._places, self._counted)
        highest = self._graph.reduce("ReduceMax", places, 1, keepdims=1)
        return self._at(self._graph.op("Sub", highest, self._graph.constant(np.array([1]))))

    def _at(self, index: str) -> str:
        """`index` (rows, 1) int64, from 0 → (rows, hidden)."""
        return self._graph.op("GatherND", self._hidden, index, batch_dims=1)

    def _unsqueezed(self, mask: str) -> str:
        return self._graph.op("Unsqueeze", mask, self._graph.constant(np.array([-1])))

    def _float(self, value: float) -> str:
        return self._graph.constant(np.array(value, np.float32))
