"""A finished graph → the same in float16, for GPUs; what pools, projects and normalises stays float32.

The encoder's matrices and what it hands from layer to layer become float16: half the memory to read, and the tensor
cores. Its kernels on a GPU take their sums in float32: cuBLAS as ONNX Runtime calls it, attention's softmax,
LayerNormalization (onnxruntime/core/providers/cuda/nn/layer_norm_impl.cu). From the last hidden state on all is
float32: a mean over thousands of tokens would lose digits, and a norm overflow at 65,504.

Conversion itself is ONNX Runtime's (onnxruntime.transformers.float16, which needs no torch). A CPU has no such kernels:
ONNX Runtime puts casts around each, and leaves out most casts between two of them, so that little is rounded there. So
`as_on_a_gpu` writes the roundings down as nodes of their own, and what is checked is that graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto, helper

from models.graph import Graph
from service.bundle import TOKEN_OUTPUT
from service.errors import CheckpointError

_WIDE, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_LARGEST = 65504.0


def to_half(graph: Graph) -> None:
    """In place. Raises CheckpointError for a graph whose encoder and head cannot be told apart."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    _name_nodes(graph.model.graph)
    encoder, head = _parted(graph.model)
    seam = _seam(graph.model, encoder, head)
    weights = _constants_of(graph.model, head)
    outputs = list(graph.model.graph.output)
    _keep(graph.model, encoder)
    converted = convert_float_to_float16(
        graph.model, keep_io_types=True, disable_shape_infer=True, max_finite_val=_LARGEST, op_block_list=[]
    )
    graph.model.CopyFrom(converted)
    _append_head(graph, head, weights, seam)
    graph.model.graph.output.extend(outputs)


def as_on_a_gpu(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy for the CPU: every value that is float16 is computed from such values in float32, and rounded once."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    _round_graph(found.graph, set())
    return found


def _round_graph(graph: GraphProto, halves: set[str]) -> None:
    """`halves` are the float16 values so far; those of the graph are added to them. A branch sees what is around it."""
    halves.update(one.name for one in graph.initializer if one.data_type == _HALF)
    nodes = [rounded for node in graph.node for rounded in _rounded(node, halves)]
    del graph.node[:]
    graph.node.extend(nodes)


def _rounded(node: NodeProto, halves: set[str]) -> Iterator[NodeProto]:
    """The node, with casts before and behind it where it computes in float16."""
    if branches := _branches(node):
        for branch in branches:
            _round_graph(branch, halves)
        halves.update(name for i, name in enumerate(node.output) if branches[0].output[i].name in halves)
        yield node
        return
    if node.op_type == "Cast":
        if node.attribute[0].i == _HALF:
            halves.update(node.output)
        yield node
        return
    taken = [i for i, name in enumerate(node.input) if name in halves]
    if not taken:
        yield node
        return
    for i in taken:
        wide = f"{node.name}/in_{i}"
        yield helper.make_node("Cast", [node.input[i]], [wide], to=_WIDE)
        node.input[i] = wide
    if node.op_type in _COUNTING:
        yield node
        return
    results = [(name, f"{node.name}/out_{i}") for i, name in enumerate(node.output) if name]
    for i, name in enumerate(node.output):
        node.output[i] = f"{node.name}/out_{i}" if name else name
    yield node
    for name, wide in results:
        yield helper.make_node("Cast", [wide], [name], to=_HALF)
        halves.add(name)


# Their results are no floats, whatever they are given.
_COUNTING = ("Shape", "Size", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual", "IsNaN", "IsInf", "NonZero")


def _name_nodes(graph: GraphProto, prefix: str = "") -> None:
    """The casts that conversion puts in are named after the nodes they belong to."""
    for i, node in enumerate(graph.node):
        node.name = f"{prefix}{node.op_type}_{i}"
        for number, branch in enumerate(_branches(node)):
            _name_nodes(branch, f"{node.name}/{number}/")


def _branches(node: NodeProto) -> list[GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == AttributeProto.GRAPH]


def _read(node: NodeProto) -> set[str]:
    """Names that the node needs: its inputs, and what its branches take from around them."""
    return {*node.input, *(name for branch in _branches(node) for inner in branch.node for name in _read(inner))}


def _parted(model: onnx.ModelProto) -> tuple[list[NodeProto], list[NodeProto]]:
    """The nodes before and behind the last hidden state, in order; that of a model without tokens' vectors is its
    last value."""
    behind = _values_at_seam(model)
    head, encoder = [], []
    for node in _alive(model):
        if behind & _read(node):
            head.append(node)
            behind.update(node.output)
        else:
            encoder.append(node)
    return _only_for(head, encoder, model)


def _alive(model: onnx.ModelProto) -> list[NodeProto]:
    """Nodes that an output needs: an export's other outputs have left theirs behind."""
    wanted, found = {one.name for one in model.graph.output}, []
    for node in reversed(model.graph.node):
        if wanted.intersection(node.output):
            wanted |= _read(node)
            found.append(node)
    return found[::-1]


def _exits(model: onnx.ModelProto) -> list[NodeProto]:
    """The nodes whose input is where the encoder ends."""
    named = {node.output[0]: node for node in model.graph.node if node.output}
    if TOKEN_OUTPUT in named and named[TOKEN_OUTPUT].op_type == "Identity":
        return [named[TOKEN_OUTPUT]]
    found = [named[one.name] for one in model.graph.output]
    if any(node.op_type != "Identity" for node in found):
        raise CheckpointError("the graph does not end where its outputs are declared", "report this defect")
    return found


def _only_for(
    head: Sequence[NodeProto], encoder: Sequence[NodeProto], model: onnx.ModelProto
) -> tuple[list[NodeProto], list[NodeProto]]:
    """Moves what only the head needs, as the mask in floats, from the encoder to the head."""
    kept = list(encoder)
    moved: list[NodeProto] = []
    while True:
        read = {name for node in kept for name in _read(node)} | _values_at_seam(model)
        wanted = {name for node in (*moved, *head) for name in _read(node)}
        found = [node for node in kept if wanted.intersection(node.output) and not read.intersection(node.output)]
        if not found:
            return kept, [*moved, *head]
        kept = [node for node in kept if node not in found]
        moved = [*found, *moved]


def _values_at_seam(model: onnx.ModelProto) -> set[str]:
    return {name for node in _exits(model) for name in node.input}


def _seam(model: onnx.ModelProto, encoder: Sequence[NodeProto], head: Sequence[NodeProto]) -> set[str]:
    """Values that the head takes from the encoder: nothing but the hidden state."""
    made = {name for node in encoder for name in node.output}
    taken = {name for node in head for name in node.input} & made
    if taken - _values_at_seam(model):
        raise CheckpointError(
            f"the graph's pooling reads {sorted(taken)}, which is more than the last hidden state",
            "compile with --precision fp32",
        )
    return taken


def _constants_of(model: onnx.ModelProto, nodes: Sequence[NodeProto]) -> dict[str, TensorProto]:
    read = {name for node in nodes for name in _read(node)}
    found = {}
    for one in model.graph.initializer:
        if one.name in read:
            found[one.name] = TensorProto()
            found[one.name].CopyFrom(one)
    return found


def _keep(model: onnx.ModelProto, nodes: Sequence[NodeProto]) -> None:
    """The graph of these nodes alone, with the constants that they read and no outputs."""
    read = {name for node in nodes for name in _read(node)}
    constants = [one for one in model.graph.initializer if one.name in read]
    copies = [onnx.NodeProto() for _ in nodes]
    for copy, node in zip(copies, nodes, strict=True):
        copy.CopyFrom(node)
    kept = [onnx.TensorProto() for _ in constants]
    for tensor, constant in zip(kept, constants, strict=True):
        tensor.CopyFrom(constant)
    for field in (model.graph.node, model.graph.initializer, model.graph.output, model.graph.value_info):
        del field[:]
    model.graph.node.extend(copies)
    model.graph.initializer.extend(kept)


def _append_head(graph: Graph, head: Sequence[NodeProto], constants: dict[str, TensorProto], seam: set[str]) -> None:
    """Constants that both parts read come twice, as each part has its own type."""
    renamed = {name: f"head/{name}" for name in (*constants, *seam)}
    for name, tensor in constants.items():
        tensor.name = renamed[name]
        graph.model.graph.initializer.append(tensor)
    for name in seam:
        graph.model.graph.node.append(helper.make_node("Cast", [name], [renamed[name]], to=_WIDE, name=f"wide/{name}"))
    for node in head:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        graph.model.graph.node.append(node)
