"""From token vectors to the sentence vector: pooling, dense layers, normalisation, in the graph itself.

All routes append these. The formulas are those of sentence-transformers' modules of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.activations import activate
from models.checkpoint import Checkpoint
from models.graph import Graph
from models.modules import Dense, Head, LayerNorm, Normalize, Truncate
from models.poolings import pool
from models.weights import read_weights
from service.bundle import OUTPUT, TOKEN_OUTPUT

_NORM = ("weight", "bias")


def append(graph: Graph, hidden: str, mask: str, checkpoint: Checkpoint) -> None:
    """`hidden` (rows, length, hidden) float32, `mask` (rows, length) int64 → output (rows, dimensions).

    `hidden` itself becomes an output too, which costs nothing until it is asked for.

    Of the task tokens, the modules are for the tokens' vectors, which are the only output then.

    Raises CheckpointError where a module's weights do not fit.
    """
    if checkpoint.task == "tokens":
        graph.output(apply(graph, hidden, checkpoint.heads), TOKEN_OUTPUT, "rows", "length", checkpoint.dimensions)
        return
    vector = apply(graph, pool(graph, hidden, mask, checkpoint.pooling), checkpoint.heads)
    graph.output(vector, OUTPUT, "rows", checkpoint.dimensions)
    graph.output(hidden, TOKEN_OUTPUT, "rows", "length", checkpoint.hidden_size)


def apply(graph: Graph, vector: str, heads: Sequence[Head]) -> str:
    """(rows, width) → (rows, width of the last head)."""
    for number, head in enumerate(heads):
        vector = _step(graph, vector, head, f"head_{number}")
    return vector


def _step(graph: Graph, vector: str, head: Head, name: str) -> str:
    match head:
        case Dense():
            return dense(graph, vector, head, name)
        case LayerNorm():
            return layer_norm(graph, vector, head, name)
        case Normalize():
            return normalize(graph, vector)
        case Truncate():
            return truncate(graph, vector, head)


def dense(graph: Graph, vector: str, head: Dense, name: str) -> str:
    """(…, in_features) → (…, out_features)."""
    weights = read_weights([head.folder / "model.safetensors"])
    shape = head.out_features, head.in_features
    product = graph.op("MatMul", vector, graph.constant(weights.get("linear.weight", *shape).T, f"{name}.weight"))
    if head.bias:
        bias = weights.get("linear.bias", head.out_features)
        product = graph.op("Add", product, graph.constant(bias, f"{name}.bias"))
    result = activate(graph, product, head.activation)
    if not head.residual:
        return result
    if head.in_features != head.out_features:
        around = graph.constant(weights.get("residual.weight", *shape).T, f"{name}.residual")
        vector = graph.op("MatMul", vector, around)
    return graph.op("Add", result, vector)


def layer_norm(graph: Graph, vector: str, head: LayerNorm, name: str) -> str:
    """(rows, size) → (rows, size), in operators of any opset. 1e-5 is torch.nn.LayerNorm's own."""
    weights = read_weights([head.folder / "model.safetensors"])
    scale, bias = (graph.constant(weights.get(f"norm.{part}", head.size), f"{name}.{part}") for part in _NORM)
    size = graph.constant(np.array(head.size, np.float32))

    def mean(value: str) -> str:  # (rows, size) → (rows, 1)
        return graph.op("Div", graph.reduce("ReduceSum", value, -1, keepdims=1), size)

    centred = graph.op("Sub", vector, mean(vector))
    variance = graph.op("Add", mean(graph.op("Mul", centred, centred)), graph.constant(np.array(1e-5, np.float32)))
    standard = graph.op("Div", centred, graph.op("Sqrt", variance))
    return graph.op("Add", graph.op("Mul", standard, scale), bias)


def normalize(graph: Graph, vector: str) -> str:
    """x / max(‖x‖₂, 1e-12), as torch.nn.functional.normalize."""
    norm = graph.reduce("ReduceL2", vector, -1, keepdims=1)
    return graph.op("Div", vector, graph.op("Max", norm, graph.constant(np.array(1e-12, np.float32))))


def truncate(graph: Graph, vector: str, head: Truncate) -> str:
    """(rows, width) → (rows, size)."""
    start, stop, axis = (graph.constant(np.array([number])) for number in (0, head.size, -1))
    return graph.op("Slice", vector, start, stop, axis)
