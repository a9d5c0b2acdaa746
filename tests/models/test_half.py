"""Bundles for CUDA: float16 in the encoder, float32 behind it, and what float16 cannot hold is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from safetensors.numpy import load_file, save_file

from models import half, native
from models.checkpoint import read_checkpoint
from models.graph import Graph
from models.verify import check, runnable, token_rows
from models.weights import Array, Weights
from service.bundle import MODEL_ONNX, read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError, StartupError
from service.runtime.providers import CPU
from tests.models.conftest import Compile
from tests.models.families.test_rotary import GTE, MODERNBERT, gated_weights, modernbert_weights
from tests.models.tiny import HIDDEN, TEXTS, Tiny, write_json
from tests.models.tiny import config as tiny_config
from tests.models.tiny import weights as tiny_weights

MINIMUM = 0.9995
WIDER, DEEPER = 128, 8  # enough that a rounding more or less is seen in the vectors
LEAK = 0.01  # less than float16's bound, more than float32's
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def test_a_bundle_for_cuda_is_half_as_large_and_says_what_it_is(tmp_path: Path, compiled: Compile) -> None:
    checkpoint = Tiny().write(tmp_path / "tiny")
    wide, narrow = compiled(checkpoint, target="cuda", precision="fp32"), compiled(checkpoint, target="cuda")
    assert read_bundle(wide).precision == "fp32"
    narrow = compiled(checkpoint, target="cuda", precision="fp16")
    assert (read_bundle(narrow).target, read_bundle(narrow).precision) == ("cuda", "fp16")
    types = {one.data_type for one in onnx.load(narrow / MODEL_ONNX).graph.initializer}
    assert TensorProto.FLOAT16 in types


def test_vectors_stay_those_of_float32(tmp_path: Path, compiled: Compile, said: list[str]) -> None:
    checkpoint = Tiny().write(tmp_path / "tiny")
    wide = compiled(checkpoint)
    narrow = compiled(checkpoint, target="cuda", precision="fp16")
    report = check(narrow)
    assert report.worst_cosine >= MINIMUM
    assert "rounding as cuda does" in said
    rows = token_rows(wide, read_bundle(wide), TEXTS)
    expected = Encoder(wide, read_bundle(wide), CPU).run(rows)
    with runnable(narrow, read_bundle(narrow), CPU) as graph:
        found = Encoder(narrow, read_bundle(narrow), CPU, graph=graph).run(rows)
    assert (expected * found).sum(axis=1).min() >= MINIMUM
    assert not np.array_equal(expected, found)


def test_all_fused_operators_are_kept(tmp_path: Path) -> None:
    graph = native.build(read_checkpoint(Tiny().write(tmp_path / "tiny")))
    before = sorted(node.op_type for node in graph.model.graph.node)
    half.to_half(graph)
    after = sorted(node.op_type for node in graph.model.graph.node)
    assert {"Attention", "BiasGelu", "LayerNormalization"} <= set(after)
    assert len(after) == len(before) + 1  # the cast between the two parts
    assert after.count("Cast") == before.count("Cast") + 1


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_pooling_and_normalisation_are_float32(tmp_path: Path, pooling: str) -> None:
    dense = {
        "in_features": HIDDEN,
        "out_features": 20,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    folder = Tiny(pooling={"pooling_mode": pooling, "embedding_dimension": HIDDEN}, dense=dense).write(tmp_path / "t")
    graph = native.build(read_checkpoint(folder))
    half.to_half(graph)
    constants = {one.name: one.data_type for one in graph.model.graph.initializer}
    head = {name: kind for name, kind in constants.items() if name.startswith("head/") and kind in FLOATS}
    assert head
    assert set(head.values()) == {TensorProto.FLOAT}
    encoder = {kind for name, kind in constants.items() if not name.startswith("head/") and kind in FLOATS}
    assert encoder == {TensorProto.FLOAT16}
    assert {one.type.tensor_type.elem_type for one in graph.model.graph.output} == {TensorProto.FLOAT}
    assert {one.type.tensor_type.elem_type for one in graph.model.graph.input} == {TensorProto.INT64}


def test_what_overflows_in_float16_is_not_published(tmp_path: Path, compiled: Compile, said: list[str]) -> None:
    """Float32 holds what the wide layer gives, and nobody reads it; ONNX Runtime's CPU kernels do not round it either:
    rounding is ours."""
    folder = Tiny().write(tmp_path / "tiny")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.0.intermediate.dense.weight"][0, ::2] = 6e4
    weights["encoder.layer.0.output.dense.weight"][:, 0] = 0
    save_file(weights, folder / "model.safetensors")
    compiled(folder, target="cuda", precision="fp32")
    with pytest.raises(CheckpointError, match="--precision fp32"):
        compiled(folder, target="cuda", precision="fp16")
    assert said[-1] == "rounding as cuda does"


@pytest.mark.parametrize(
    ("config", "weights", "spread"),
    [
        (MODERNBERT, modernbert_weights(WIDER, DEEPER), 0.4),
        (GTE | {"type_vocab_size": 2}, gated_weights(biases=True, hidden=WIDER, layers=DEEPER), 0.5),
    ],
)
def test_kernels_for_other_shapes_may_round_otherwise(
    tmp_path: Path, compiled: Compile, config: dict[str, Any], weights: dict[str, Array], spread: float
) -> None:
    """A text alone and in a batch: a cosine of 0.99999, where float32 has 0.999999. The first is rounded so where all
    roundings are nodes, the second on a CPU as it is."""
    folder = Tiny(pooling={"pooling_mode": "cls", "embedding_dimension": WIDER}).write(tmp_path / "wide")
    write_json(folder / "config.json", config | {"hidden_size": WIDER, "num_hidden_layers": DEEPER})
    matrices = {name: one * np.float32(spread if one.ndim == 2 else 1) for name, one in weights.items()}
    save_file(matrices, folder / "model.safetensors")
    assert check(compiled(folder, target="cuda", precision="fp16")).passed


def test_padding_that_leaks_less_than_rounding_is_not_published(tmp_path: Path, compiled: Compile) -> None:
    """An export that adds a little of the mean over all places, those of padding as well. Float32 tells."""
    graph = Graph()
    hidden = native.FAMILIES["bert"].build(graph, tiny_config(), Weights(tiny_weights()))
    mean = graph.reduce("ReduceMean", hidden, 1, keepdims=1)
    leaking = graph.op("Add", hidden, graph.op("Mul", mean, graph.constant(np.array(LEAK, np.float32))))
    graph.output(leaking, "last_hidden_state", "rows", "length", HIDDEN)
    folder = Tiny().write(tmp_path / "tiny")
    (folder / "onnx").mkdir()
    onnx.save_model(graph.model, str(folder / "onnx" / "model.onnx"))
    with pytest.raises(CheckpointError, match=r"0\.9999\d* between alone and in a batch") as raised:
        compiled(folder, target="cuda", precision="fp16", route="onnx", keep_padding=True)
    assert "the checkpoint's files do not belong together" in raised.value.remedy


def test_rounding_is_in_the_graph_that_is_checked(tmp_path: Path) -> None:
    graph = native.build(read_checkpoint(Tiny().write(tmp_path / "tiny")))
    half.to_half(graph)
    rounded = half.as_on_a_gpu(graph.model)
    kinds = [node.op_type for node in rounded.graph.node]
    kernels = [node for node in rounded.graph.node if node.op_type in ("Attention", "MatMul", "LayerNormalization")]
    after = {node.input[0] for node in rounded.graph.node if node.op_type == "Cast" and node.attribute[0].i == 10}
    assert all(node.output[0] in after for node in kernels)
    assert kinds.count("Attention") == 2


def test_an_exported_graph_can_be_half_as_well(tmp_path: Path, compiled: Compile) -> None:
    """One that has pooled already, as some exports do: what gave that output is left out."""
    checkpoint = Tiny().write(tmp_path / "tiny")
    (checkpoint / "onnx").mkdir()
    exported = onnx.load(compiled(checkpoint) / MODEL_ONNX)
    onnx.save_model(exported, str(checkpoint / "onnx" / "model.onnx"))
    found = compiled(checkpoint, target="cuda", precision="fp16", route="onnx")
    assert check(found).worst_cosine >= MINIMUM


def test_branches_are_half_as_well(
    tmp_path: Path, compiled: Compile, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Graphs for long rows choose between two ways while they run."""
    monkeypatch.setattr("models.families.bert._LONG", 8)
    checkpoint = Tiny().write(tmp_path / "tiny")
    found = compiled(checkpoint, target="cuda", precision="fp16")
    model = onnx.load(found / MODEL_ONNX)
    branches = [node for node in model.graph.node if node.op_type == "If"]
    assert branches
    rounded = [node for node in half.as_on_a_gpu(model).graph.node if node.op_type == "If"]
    for plain, one in zip(branches, rounded, strict=True):
        assert len(one.attribute[0].g.node) > len(plain.attribute[0].g.node)
    assert check(found).worst_cosine >= MINIMUM


@pytest.mark.parametrize(("target", "precision"), [("cpu", "fp16"), ("cuda", "int8"), ("tensorrt", "int8")])
def test_what_no_kernel_runs_well_is_refused_at_once(
    tmp_path: Path, compiled: Compile, target: str, precision: str
) -> None:
    with pytest.raises(StartupError) as raised:
        compiled(tmp_path / "nothing is looked for here", target=target, precision=precision)
    assert precision in str(raised.value)


def test_a_head_that_reads_more_than_the_hidden_state_is_refused() -> None:
    graph = Graph()
    wide = graph.cast(graph.input("input_ids"), TensorProto.FLOAT)
    hidden = graph.op("Relu", wide)
    graph.output(graph.op("Add", hidden, graph.op("Abs", wide)), "sentence_embedding", "rows", "length")
    graph.output(hidden, "token_embeddings", "rows", "length")
    with pytest.raises(CheckpointError, match="more than the last hidden state"):
        half.to_half(graph)
