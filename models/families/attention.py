"""Attention of long rows, in memory that does not grow with the square of their length.

A row that is longer than a batch's budget runs alone and so has no padding. MultiHeadAttention without a mask has a
kernel that never holds all scores (Dao et al., 2022); with a mask it holds rows x heads x length^2 of them, which for
batches within the budget is little. So the graph looks whether there is padding and takes one or the other.

Where a token only sees near ones, keys and values are gathered in windows around blocks of queries, so that scores
and work grow with the length alone.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.graph import CONTRIB, Graph

_HIDDEN = -10_000.0  # added to the score of what a token must not see, as ONNX Runtime's own kernels do


class Attention:
    """softmax(q·kᵀ / √head_size)·v for all heads; queries, keys, values and results are (rows, length, width)."""

    def __init__(self, graph: Graph, mask: str, heads: int, width: int) -> None:
        """`mask` (rows, length) int64 is 1 for tokens; keys where it is 0 get no attention."""
        self._graph = graph
        self._heads = heads
        self._width = width
        self._mask = mask
        self._mask_int32 = graph.cast(mask, TensorProto.INT32)
        self._is_unpadded = graph.cast(graph.op("ReduceMin", mask, keepdims=0), TensorProto.BOOL)
        self._length = graph.op("Shape", mask, start=1, end=2)  # (1,)

    def everywhere(self, query: str, key: str, value: str) -> str:
        """Every token sees every other one."""
        return self._graph.branch(
            self._is_unpadded,
            lambda: self._attend(query, key, value),
            lambda: self._attend(query, key, value, "", self._mask_int32),
        )

    def near(self, query: str, key: str, value: str, reach: int) -> str:
        """Every token sees `reach` tokens before and behind it, and itself."""
        graph = self._graph
        is_short = graph.op("LessOrEqual", self._length, graph.constant(np.array([reach + 1])))
        return graph.branch(
            is_short,
            lambda: self.everywhere(query, key, value),
            lambda: self._in_windows(query, key, value, max(reach, 1), reach),
        )

    def _attend(self, query: str, key: str, value: str, *more: str) -> str:
        return self._graph.op("MultiHeadAttention", query, key, value, *more, domain=CONTRIB, num_heads=self._heads)

    def _in_windows(self, query: str, key: str, value: str, block: int, reach: int) -> str:
        """Blocks of queries are rows of a batch of their own, each beside a window of keys that holds all they see."""
        op, constant = self._graph.op, self._graph.constant
        one, window = constant(np.array([1])), block + 2 * reach
        size = constant(np.array([block]))
        blocks = op("Div", op("Add", self._length, constant(np.array([block - 1]))), size)  # (1,)
        zero, step = constant(np.array(0)), constant(np.array(1))
        starts = op("Mul", op("Range", zero, op("Squeeze", blocks), step), size)  # (blocks,)
        starts = op("Unsqueeze", starts, one)
        places = op("Add", starts, constant(np.arange(window) - reach))  # (blocks, window)
        last = op("Sub", self._length, one)
        inside = op("Min", op("Max", places, constant(np.array([0]))), last)
        own = op("Min", op("Add", starts, constant(np.arange(block))), last)  # (blocks, block)
        attended = self._attend(
            self._gathered(query, own, block),
            self._gathered(key, inside, window),
            self._gathered(value, inside, window),
            "",
            "",
            self._window_bias(op("Equal", places, inside), inside, block, reach),
        )
        shape = op(
            "Concat", constant(np.array([-1])), op("Mul", blocks, size), constant(np.array([self._width])), axis=0
        )
        whole = op("Reshape", attended, shape)  # (rows, blocks · block, width)
        return op("Slice", whole, constant(np.array([0])), self._length, one)

    def _gathered(self, value: str, places: str, size: int) -> str:
        """(rows, length, width), (blocks, size) → (rows · blocks, size, width)."""
        shape = self._graph.constant(np.array([-1, size, self._width]))
        return self._graph.op("Reshape", self._graph.op("Gather", value, places, axis=1), shape)

    def _window_bias(self, exists: str, places: str, block: int, reach: int) -> str:
        """What is added to scores: (rows · blocks, 1, block, window). `exists` (blocks, window): it is in the row."""
        op, constant, window = self._graph.op, self._graph.constant, block + 2 * reach
        behind = np.arange(window)[None, :] - np.arange(block)[:, None]
        band = constant((behind >= 0) & (behind <= 2 * reach))  # (block, window)
        tokens = self._graph.cast(op("Gather", self._mask, places, axis=1), TensorProto.BOOL)
        keys = op("Unsqueeze", op("And", tokens, exists), constant(np.array([2])))  # (rows, blocks, 1, window)
        bias = op(
            "Where",
            op("And", keys, band),
            constant(np.array(0, np.float32)),
            constant(np.array(_HIDDEN, np.float32)),
        )
        return op("Reshape", bias, constant(np.array([-1, 1, block, window])))
