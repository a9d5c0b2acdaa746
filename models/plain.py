"""A finished graph → the same in operators of ONNX alone, for TensorRT, which knows none of ONNX Runtime's own.

What it does not know it leaves to CUDA, and every such node cuts its engine in two; so the fused operators are written
out, and TensorRT fuses them its own way. Formulas: attention, Vaswani et al., 2017; GELU and its tanh form, Hendrycks
and Gimpel, 2016.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto, helper

from models.graph import CONTRIB, Graph
from service.errors import CheckpointError

_MASKED = -10_000.0  # added to the scores of keys that are padding, as the fused operator does; float16 holds it


def to_plain(graph: Graph) -> None:
    """In place. Raises CheckpointError for what has no form in plain operators here."""
    nodes = list(graph.model.graph.node)
    del graph.model.graph.node[:]
    for node in nodes:
        if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
            raise _refused("its graph chooses between two ways while it runs, as those for long rows do")
        if node.domain != CONTRIB:
            graph.model.graph.node.append(node)
            continue
        if node.op_type not in _FORMS:
            raise _refused(f"{node.op_type} is ONNX Runtime's own operator")
        value = _FORMS[node.op_type](graph, node)
        graph.model.graph.node.append(helper.make_node("Identity", [value], [node.output[0]]))
    kept = [one for one in graph.model.opset_import if one.domain != CONTRIB]
    del graph.model.opset_import[:]
    graph.model.opset_import.extend(kept)


def _attention(graph: Graph, node: NodeProto) -> str:
    """Input (rows, length, hidden), weight (hidden, 3 · hidden), bias, mask (rows, length), a past that no encoder has,
    and what is added to the scores (1, heads, length, length) → (rows, length, hidden)."""
    value, weight, bias, mask, past, added = [*node.input, *[""] * 6][:6]
    known = {one.name: one.i for one in node.attribute}
    if known.keys() != {"num_heads"} or past or len(node.output) != 1 or not mask:
        raise _refused(f"an Attention with {', '.join(sorted(known))} is not understood")
    hidden = next(one.dims[1] for one in graph.model.graph.initializer if one.name == weight) // 3
    heads = known["num_heads"]
    projected = graph.op("Add", graph.op("MatMul", value, weight), bias)
    by_head = graph.op("Reshape", projected, _integers(graph, 0, 0, 3, heads, hidden // heads))
    turned = graph.op("Transpose", by_head, perm=[2, 0, 3, 1, 4])  # (3, rows, heads, length, hidden ÷ heads)
    query, key, values = (graph.op("Gather", turned, graph.constant(np.array(part)), axis=0) for part in range(3))
    scaled = graph.op("Mul", query, _float(graph, 1 / math.sqrt(hidden // heads)))
    scores = graph.op("MatMul", scaled, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    if added:
        scores = graph.op("Add", scores, added)
    padding = graph.op("Sub", _float(graph, 1.0), graph.cast(mask, TensorProto.FLOAT))
    hiding = graph.op("Unsqueeze", graph.op("Mul", padding, _float(graph, _MASKED)), _integers(graph, 1, 2))
    seen = graph.op("Softmax", graph.op("Add", scores, hiding), axis=-1)
    mixed = graph.op("Transpose", graph.op("MatMul", seen, values), perm=[0, 2, 1, 3])
    return graph.op("Reshape", mixed, _integers(graph, 0, 0, hidden))


def _gelu(graph: Graph, node: NodeProto) -> str:
    """x ÷ 2 · (1 + erf(x ÷ √2)), of the input and, if there is one, its bias."""
    value = _biased(graph, node)
    return _half_times(graph, value, graph.op("Erf", graph.op("Mul", value, _float(graph, math.sqrt(0.5)))))


def _fast_gelu(graph: Graph, node: NodeProto) -> str:
    """x ÷ 2 · (1 + tanh(√(2 ÷ π) · (x + 0.044715 x³)))."""
    value = _biased(graph, node)
    cube = graph.op("Mul", graph.op("Mul", value, value), graph.op("Mul", value, _float(graph, 0.044715)))
    inner = graph.op("Mul", graph.op("Add", value, cube), _float(graph, math.sqrt(2 / math.pi)))
    return _half_times(graph, value, graph.op("Tanh", inner))


def _quick_gelu(graph: Graph, node: NodeProto) -> str:
    """x · sigmoid(alpha · x)."""
    value = node.input[0]
    alpha = next((one.f for one in node.attribute if one.name == "alpha"), 1.702)
    return graph.op("Mul", value, graph.op("Sigmoid", graph.op("Mul", value, _float(graph, alpha))))


def _half_times(graph: Graph, value: str, sign: str) -> str:
    return graph.op("Mul", graph.op("Mul", value, _float(graph, 0.5)), graph.op("Add", sign, _float(graph, 1.0)))


def _biased(graph: Graph, node: NodeProto) -> str:
    return graph.op("Add", *node.input) if len(node.input) == 2 else node.input[0]


def _float(graph: Graph, value: float) -> str:
    return graph.constant(np.array(value, np.float32))


def _integers(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))


def _refused(reason: str) -> CheckpointError:
    return CheckpointError(f"this model cannot be written for TensorRT: {reason}", "take --target cuda")


_FORMS: Mapping[str, Callable[[Graph, NodeProto], str]] = {
    "Attention": _attention,
    "BiasGelu": _gelu,
    "Gelu": _gelu,
    "FastGelu": _fast_gelu,
    "QuickGelu": _quick_gelu,
}
