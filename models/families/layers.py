"""The parts that layers of rotary families are made of, from weights by torch's names: (out, in) matrices."""

from __future__ import annotations

import numpy as np

from models.families.family import refused
from models.graph import CONTRIB, Graph
from models.weights import Array, Weights


class Layers:
    """Appends parts to a graph. Values are (…, features)."""

    def __init__(self, graph: Graph, weights: Weights, epsilon: float) -> None:
        """`epsilon` is that of every normalisation."""
        self._graph = graph
        self._weights = weights
        self._epsilon = epsilon

    def embed(self, ids: str, name: str, rows: int, width: int) -> str:
        """(…) int64 → (…, width)."""
        return self._graph.op("Gather", self._graph.constant(self._weights.get(name, rows, width), name), ids)

    def linear(self, value: str, name: str, inner: int, outer: int, *, bias: bool) -> str:
        """(…, inner) → (…, outer)."""
        return self.product(value, [(name, outer)], inner, bias=bias)

    def product(self, value: str, parts: list[tuple[str, int]], inner: int, *, bias: bool) -> str:
        """Several layers that read the same value, as one: their results side by side."""
        get, name = self._weights.get, parts[0][0]
        weight = np.concatenate([get(f"{part}.weight", outer, inner) for part, outer in parts])
        found = self._graph.op("MatMul", value, self._graph.constant(weight.T, f"{name}.weight"))
        if not bias:
            return found
        biases: Array = np.concatenate([get(f"{part}.bias", outer) for part, outer in parts])
        return self._graph.op("Add", found, self._graph.constant(biases, f"{name}.bias"))

    def norm(self, value: str, name: str, width: int, *, bias: bool = True) -> str:
        """LayerNormalization over the features."""
        scale = self._graph.constant(self._weights.get(f"{name}.weight", width), f"{name}.weight")
        shift = [self._graph.constant(self._weights.get(f"{name}.bias", width), f"{name}.bias")] if bias else []
        return self._graph.op("LayerNormalization", value, scale, *shift, axis=-1, epsilon=self._epsilon)

    def activated(self, value: str, activation: str) -> str:
        """By transformers' name of the function. Raises CheckpointError for one that is not known."""
        match activation:
            case "gelu":
                return self._graph.op("Gelu", value, domain=CONTRIB)
            case "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh":
                return self._graph.op("FastGelu", value, domain=CONTRIB)
            case "silu" | "swish":
                return self._graph.op("QuickGelu", value, domain=CONTRIB, alpha=1.0)
            case "relu":
                return self._graph.op("Relu", value)
        raise refused(f"activation {activation} is not supported (gelu, gelu_new, silu and relu are)")
