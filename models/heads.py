"""From token vectors to the sentence vector: pooling, dense layers, normalisation, in the graph itself.

Both routes append these. The formulas are those of sentence-transformers' modules of the same names.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.checkpoint import Activation, Checkpoint, Dense
from models.graph import CONTRIB, Graph
from models.recipe import PoolingMode
from models.weights import read_weights
from service.bundle import OUTPUT, TOKEN_OUTPUT


def append(graph: Graph, hidden: str, mask: str, checkpoint: Checkpoint) -> None:
    """`hidden` (rows, length, hidden) float32, `mask` (rows, length) int64 → output (rows, dimensions).

    `hidden` itself becomes an output too, which costs nothing until it is asked for.

    Raises CheckpointError where a dense layer's weights do not fit.
    """
    vector = pool(graph, hidden, mask, checkpoint.pooling)
    for number, head in enumerate(checkpoint.heads):
        vector = dense(graph, vector, head, f"dense_{number}") if isinstance(head, Dense) else normalize(graph, vector)
    graph.output(vector, OUTPUT, "rows", checkpoint.dimensions)
    graph.output(hidden, TOKEN_OUTPUT, "rows", "length", checkpoint.hidden_size)


def pool(graph: Graph, hidden: str, mask: str, mode: PoolingMode) -> str:
    """(rows, length, hidden) → (rows, hidden), over the tokens whose mask is 1."""
    if mode == "cls":
        return graph.op("Gather", hidden, graph.constant(np.array(0)), axis=1)
    kept = graph.op("Unsqueeze", mask, graph.constant(np.array([-1])))  # (rows, length, 1)
    if mode == "max":
        lowest = graph.constant(np.array(-1e9, np.float32))
        return graph.reduce("ReduceMax", graph.op("Where", graph.cast(kept, TensorProto.BOOL), hidden, lowest), 1)
    kept = graph.cast(kept, TensorProto.FLOAT)
    total = graph.reduce("ReduceSum", graph.op("Mul", hidden, kept), 1)
    count = graph.reduce("ReduceSum", kept, 1)  # (rows, 1)
    return graph.op("Div", total, graph.op("Max", count, graph.constant(np.array(1e-9, np.float32))))


def dense(graph: Graph, vector: str, head: Dense, name: str) -> str:
    """(rows, in_features) → (rows, out_features)."""
    weights = read_weights([head.folder / "model.safetensors"])
    weight = weights.get("linear.weight", head.out_features, head.in_features)
    vector = graph.op("MatMul", vector, graph.constant(weight.T, f"{name}.weight"))
    if head.bias:
        bias = weights.get("linear.bias", head.out_features)
        vector = graph.op("Add", vector, graph.constant(bias, f"{name}.bias"))
    return _activate(graph, vector, head.activation)


def _activate(graph: Graph, vector: str, activation: Activation) -> str:
    match activation:
        case "tanh":
            return graph.op("Tanh", vector)
        case "relu":
            return graph.op("Relu", vector)
        case "gelu":  # the exact one, with erf: ONNX itself has it only from opset 20
            return graph.op("Gelu", vector, domain=CONTRIB)
        case "identity":
            return vector


def normalize(graph: Graph, vector: str) -> str:
    """x / max(‖x‖₂, 1e-12), as torch.nn.functional.normalize."""
    norm = graph.reduce("ReduceL2", vector, -1, keepdims=1)
    return graph.op("Div", vector, graph.op("Max", norm, graph.constant(np.array(1e-12, np.float32))))
