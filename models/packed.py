"""A finished graph → the same on real tokens alone, for CUDA: padding is taken out before the first attention and put
back behind the last layer, so that no matrix is multiplied by it.

ONNX Runtime has the three operators, with kernels for CUDA only: RemovePadding, RestorePadding, and PackedAttention,
which is Attention on the tokens of all rows in one line (onnxruntime/core/graph/contrib_ops/bert_defs.cc). Everything
between them works on one token at a time and does not see the difference. In float16 the packed kernel is a fused one,
which the plain Attention with a mask of zeros and ones does not get. `as_padded` writes the three in plain operators,
so that a CPU can run the same graph.

  padded   (rows, length, hidden)
  packed   (tokens, hidden): the real ones, row after row
  offset   (rows, length) int32: places in the padded value, of the real tokens first, then of the others
  ends     (rows + 1,) int32: where each row begins in the packed value, and where the last one ends
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto

from models.graph import CONTRIB, Graph

_REMOVE, _RESTORE, _ATTENTION = "RemovePadding", "RestorePadding", "PackedAttention"
# One token at a time, where what stands beside the first input are constants of a token's width.
_OF_ONE_TOKEN = (
    *("LayerNormalization", "SkipLayerNormalization", "BiasGelu", "Gelu", "FastGelu", "QuickGelu"),
    *("Add", "Sub", "Mul", "Div", "Erf", "Tanh", "Relu", "Sigmoid"),
)


def pack(graph: Graph) -> bool:
    """In place. False, and nothing is changed, for a graph whose attention has no such kernel: one that chooses
    between two ways while it runs, turns queries and keys, or adds a bias by distance."""
    nodes = list(graph.model.graph.node)
    attentions = [node for node in nodes if node.op_type == "Attention"]
    if not attentions or not all(map(_has_kernel, attentions)) or _differ(attentions) or any(map(_branches, nodes)):
        return False
    packer = _Packer(graph, attentions[0])
    del graph.model.graph.node[:]
    for node in nodes:
        packer.take(node)
    _name(graph.model)
    return True


def as_padded(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose every operator a CPU knows; another graph comes back as it is."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    graph = Graph(found)
    nodes = list(found.graph.node)
    del found.graph.node[:]
    for node in nodes:
        match node.op_type:
            case "RemovePadding":
                _write_removal(graph, node)
            case "RestorePadding":
                _rename(graph, _restored(graph, node.input[0], node.input[1]), node.output[0])
            case "PackedAttention":
                _rename(graph, _attended(graph, node), node.output[0])
            case _:
                found.graph.node.append(node)
    _name(found)
    return found


class _Packer:
    """Copies a graph node by node, and knows which of its values are packed by now."""

    def __init__(self, graph: Graph, first: NodeProto) -> None:
        self._graph, self._first = graph, first
        self._body = graph.model.graph
        self._dims = {one.name: len(one.dims) for one in self._body.initializer}
        self._packed: dict[str, str] = {}  # padded → packed name
        self._restored: dict[str, str] = {}
        self._offset = self._ends = ""

    def take(self, node: NodeProto) -> None:
        """Appends it, for packed values if it can."""
        if node is self._first:
            self._remove_padding(node.input[0], node.input[3])
        if node.op_type == "Attention":
            self._attend(node)
        elif self._is_of_one_token(node):
            self._replace(node, self._packed)
            self._packed.update((name, name) for name in node.output)
            self._body.node.append(node)
        else:
            for name in [one for one in node.input if one in self._packed]:
                self._restore(name)
            self._replace(node, self._restored)
            self._body.node.append(node)

    def _remove_padding(self, value: str, mask: str) -> None:
        graph = self._graph
        counts = graph.op("ReduceSum", mask, graph.constant(np.array([1])), keepdims=0)  # (rows,) int32
        names = [f"{value}/{what}" for what in ("packed", "offset", "ends", "longest")]
        self._body.node.append(
            onnx.helper.make_node(_REMOVE, [value, counts], names, domain=CONTRIB, name=f"{value}/{_REMOVE}")
        )
        self._packed[value], self._offset, self._ends = names[:3]

    def _attend(self, node: NodeProto) -> None:
        value, weight, bias = node.input[:3]
        inputs = [self._packed[value], weight, bias, self._offset, self._ends]
        heads = next(one.i for one in node.attribute if one.name == "num_heads")
        self._body.node.append(
            onnx.helper.make_node(_ATTENTION, inputs, node.output, domain=CONTRIB, name=node.name, num_heads=heads)
        )
        self._packed[node.output[0]] = node.output[0]

    def _is_of_one_token(self, node: NodeProto) -> bool:
        """And all that is no constant is packed."""
        if not any(name in self._packed for name in node.input):
            return False
        if node.op_type == "MatMul":
            return node.input[0] in self._packed and self._dims.get(node.input[1]) == 2
        known = all(name in self._packed or self._dims.get(name, 2) < 2 for name in node.input)
        axis = next((one.i for one in node.attribute if one.name == "axis"), -1)
        return node.op_type in _OF_ONE_TOKEN and known and axis == -1

    def _restore(self, name: str) -> None:
        if name not in self._restored:
            self._restored[name] = self._graph.op(_RESTORE, self._packed[name], self._offset, domain=CONTRIB)

    def _replace(self, node: NodeProto, by: dict[str, str]) -> None:
        for i, name in enumerate(node.input):
            node.input[i] = by.get(name, name)


def _has_kernel(node: NodeProto) -> bool:
    """Input, weight, bias and a mask, and nothing else."""
    return len(node.input) == 4 and all(node.input) and [one.name for one in node.attribute] == ["num_heads"]


def _differ(attentions: list[NodeProto]) -> bool:
    return len({node.input[3] for node in attentions}) > 1


def _branches(node: NodeProto) -> bool:
    return any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute)


def _name(model: onnx.ModelProto) -> None:
    """What is put around a node later is named after it (`half`)."""
    for node in model.graph.node:
        node.name = node.name or node.output[0]


# --- the three operators on a CPU -----------------------------------------------------------------------------


def _write_removal(graph: Graph, node: NodeProto) -> None:
    """Input (rows, length, hidden), counts (rows,) → packed, offset, ends; nobody reads the longest row's length."""
    value, counts = node.input
    packed, offset, ends, _ = node.output
    is_real = graph.op("Reshape", _is_real(graph, counts, graph.op("Shape", value, start=1, end=2)), _ints(graph, -1))
    real, rest = (_places(graph, one) for one in (is_real, graph.op("Not", is_real)))
    places = graph.op("Concat", real, rest, axis=0)
    shape = graph.op("Shape", value, start=0, end=2)
    _rename(graph, graph.cast(graph.op("Reshape", places, shape), TensorProto.INT32), offset)
    _rename(graph, graph.op("Gather", _flat(graph, value), real, axis=0), packed)
    total = graph.op("CumSum", counts, graph.constant(np.array(0)))
    _rename(graph, graph.op("Concat", graph.constant(np.array([0], np.int32)), total, axis=0), ends)


def _restored(graph: Graph, value: str, offset: str) -> str:
    """(tokens, hidden) → (rows, length, hidden), with zeros where there was no token."""
    shape = graph.op("Shape", offset)
    size = graph.op("ReduceProd", shape, keepdims=1)  # (1,): rows · length
    missing = graph.op("Sub", size, _tokens(graph, value))
    filled = graph.op("Pad", value, graph.op("Concat", _ints(graph, 0, 0), missing, _ints(graph, 0), axis=0))
    places = graph.op("Reshape", graph.cast(offset, TensorProto.INT64), _ints(graph, -1))
    zero, one = (graph.constant(np.array(number)) for number in (0, 1))
    numbers = graph.op("Range", zero, graph.op("Squeeze", size), one)
    source = graph.op("ScatterElements", numbers, places, numbers, axis=0)  # of each place, where it is in `filled`
    padded = graph.op("Gather", filled, source, axis=0)
    return graph.op("Reshape", padded, graph.op("Concat", shape, _ints(graph, -1), axis=0))


def _attended(graph: Graph, node: NodeProto) -> str:
    """Attention on the padded value, packed again."""
    value, weight, bias, offset, ends = node.input
    starts = graph.op("Slice", ends, _ints(graph, 0), _ints(graph, -1))
    counts = graph.op("Sub", graph.op("Slice", ends, _ints(graph, 1), _ints(graph, 2**31 - 1)), starts)
    mask = graph.cast(_is_real(graph, counts, graph.op("Shape", offset, start=1, end=2)), TensorProto.INT32)
    heads = node.attribute[0].i
    padded = _restored(graph, value, offset)
    padded = graph.op("Attention", padded, weight, bias, mask, domain=CONTRIB, num_heads=heads)
    places = graph.op("Reshape", offset, _ints(graph, -1))
    real = graph.op("Slice", places, _ints(graph, 0), _tokens(graph, value))
    return graph.op("Gather", _flat(graph, padded), real, axis=0)


def _is_real(graph: Graph, counts: str, length: str) -> str:
    """(rows,) int32 and (1,) → (rows, length) bool."""
    zero, one = (graph.constant(np.array(number, np.int32)) for number in (0, 1))
    end = graph.cast(graph.op("Squeeze", length), TensorProto.INT32)
    return graph.op("Less", graph.op("Range", zero, end, one), graph.op("Unsqueeze", counts, _ints(graph, 1)))


def _places(graph: Graph, flags: str) -> str:
    """(n,) bool → those that are true, (m,) int64."""
    return graph.op("Squeeze", graph.op("NonZero", flags), _ints(graph, 0))


def _flat(graph: Graph, value: str) -> str:
    """(rows, length, hidden) → (rows · length, hidden)."""
    width = graph.op("Shape", value, start=2, end=3)
    return graph.op("Reshape", value, graph.op("Concat", _ints(graph, -1), width, axis=0))


def _tokens(graph: Graph, value: str) -> str:
    return graph.op("Shape", value, start=0, end=1)


def _ints(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))


def _rename(graph: Graph, value: str, name: str) -> None:
    graph.model.graph.node.append(onnx.helper.make_node("Identity", [value], [name]))
