"""A finished graph → the same with SkipLayerNormalization, which adds and normalises in one go, for GPUs.

ONNX Runtime's own fusion wants to know a batch's length when it loads a graph, and so finds none in graphs whose length
is open (onnxruntime/core/optimizer/skip_layer_norm_fusion.cc). On a CPU the fused kernel is the slower one.
"""

from __future__ import annotations

from collections import Counter

from onnx import NodeProto, helper

from models.graph import CONTRIB, Graph


def fuse(graph: Graph) -> None:
    """In place: LayerNormalization(x + (y + bias)), where nobody else reads the sums and x and y have one shape."""
    body = graph.model.graph
    nodes = list(body.node)
    made = {node.output[0]: node for node in nodes if node.output}
    read = Counter(name for node in nodes for name in node.input)
    dims = {one.name: len(one.dims) for one in body.initializer}
    gone: list[NodeProto] = []
    fused: list[NodeProto] = []
    for node in nodes:
        fused.append(node)
        if (found := _sums(node, made, read, dims)) is None:
            continue
        added, biased = found
        kept = next(name for name in added.input if name != biased.output[0])
        value, bias = sorted(biased.input, key=lambda name: name in dims)
        inputs = [value, kept, node.input[1], node.input[2], bias]
        epsilon = next(one.f for one in node.attribute if one.name == "epsilon")
        fused[-1] = helper.make_node(
            "SkipLayerNormalization", inputs, node.output, name=node.name, domain=CONTRIB, epsilon=epsilon
        )
        gone += [added, biased]
    del body.node[:]
    body.node.extend(node for node in fused if not any(node is one for one in gone))


def _sums(
    node: NodeProto, made: dict[str, NodeProto], read: Counter[str], dims: dict[str, int]
) -> tuple[NodeProto, NodeProto] | None:
    """The addition before a LayerNormalization, and that of a bias to one of its sides, which a MatMul gave."""
    known = {one.name: one for one in node.attribute}
    if node.op_type != "LayerNormalization" or len(node.input) != 3 or "epsilon" not in known:
        return None
    if "axis" in known and known["axis"].i != -1:
        return None
    added = made.get(node.input[0])
    if added is None or added.op_type != "Add" or read[added.output[0]] != 1 or any(one in dims for one in added.input):
        return None
    for name in added.input:
        biased = made.get(name)
        if biased is None or biased.op_type != "Add" or read[name] != 1:
            continue
        if any(dims.get(one) == 1 for one in biased.input) and any(_is_product(made.get(one)) for one in biased.input):
            return added, biased
    return None


def _is_product(node: NodeProto | None) -> bool:
    return node is not None and node.op_type == "MatMul"
