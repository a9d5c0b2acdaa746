"""A checkpoint that carries an ONNX encoder gives the vectors of the one that carries weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.graph import Graph
from models.native import FAMILIES
from models.weights import Weights
from service.bundle import read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.types import TwoPartRow
from tests.models import tiny
from tests.models.conftest import Compile
from tests.models.test_native import embed
from tests.models.tiny import Tiny, write_json


def encoder(output: str = "last_hidden_state") -> onnx.ModelProto:
    """The tiny BERT alone, without pooling, as an exporter would leave it."""
    graph = Graph()
    hidden = FAMILIES["bert"].build(graph, tiny.config(), Weights(tiny.weights()))
    graph.output(hidden, output, "rows", "length", tiny.HIDDEN)
    return graph.model


def with_segments(model: onnx.ModelProto) -> onnx.ModelProto:
    """Adds the third input of BERT exports, and lets it reach the output."""
    inputs = model.graph.input
    inputs.append(helper.make_tensor_value_info("token_type_ids", TensorProto.INT64, ["rows", "length"]))
    last = model.graph.node[-1]
    hidden, last.input[0] = last.input[0], "shifted"
    nodes = [
        helper.make_node("Unsqueeze", ["token_type_ids", "axis"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["segments"], to=TensorProto.FLOAT),
        helper.make_node("Add", [hidden, "segments"], ["shifted"]),
    ]
    model.graph.initializer.append(helper.make_tensor("axis", TensorProto.INT64, [1], [-1]))
    for node in nodes:
        model.graph.node.insert(len(model.graph.node) - 1, node)
    return model


def write(folder: Path, model: onnx.ModelProto, *, external: str | None = None, at: str = "onnx/model.onnx") -> Path:
    Tiny(dense=tiny.dense_config("activation.Tanh")).write(folder)
    (folder / "model.safetensors").unlink()
    (folder / at).parent.mkdir(exist_ok=True)
    if external:
        onnx.save_model(model, str(folder / at), save_as_external_data=True, location=external, size_threshold=0)
    else:
        onnx.save_model(model, str(folder / at))
    return folder


Make = Callable[[], onnx.ModelProto]


@pytest.mark.parametrize(
    ("make", "external", "at", "inputs"),
    [
        (encoder, None, "onnx/model.onnx", 2),
        (encoder, None, "model.onnx", 2),
        (encoder, "model.onnx_data", "onnx/model.onnx", 2),
        (lambda: encoder("token_embeddings"), None, "onnx/model.onnx", 2),
        (lambda: encoder("anything"), None, "onnx/model.onnx", 2),
        (lambda: encoder("sentence_embedding"), None, "onnx/model.onnx", 2),
        (lambda: with_segments(encoder()), None, "onnx/model.onnx", 3),
    ],
)
def test_equals_the_native_route(
    tmp_path: Path, compiled: Compile, make: Make, external: str | None, at: str, inputs: int
) -> None:
    _, native = embed(compiled(Tiny(dense=tiny.dense_config("activation.Tanh")).write(tmp_path / "native")))
    folder = compiled(write(tmp_path / "exported", make(), external=external, at=at))
    np.testing.assert_allclose(embed(folder)[1], native, atol=1e-6)
    bundle = read_bundle(folder)
    assert bundle.provenance.route == "onnx"
    assert len(bundle.inputs) == inputs


def test_newer_and_older_opsets(tmp_path: Path, compiled: Compile) -> None:
    """Reductions took their axes from an attribute before opset 18, from an input since."""
    results = []
    for opset in (17, 18):
        model = encoder()
        model.opset_import[0].version = opset
        results.append(embed(compiled(write(tmp_path / str(opset), model)))[1])
    np.testing.assert_array_equal(results[0], results[1])


def test_the_route_can_be_chosen(tmp_path: Path, compiled: Compile) -> None:
    folder = Tiny().write(tmp_path / "both")
    (folder / "onnx").mkdir()
    onnx.save_model(encoder(), str(folder / "onnx" / "model.onnx"))
    first, second = compiled(folder), compiled(folder, route="onnx")
    assert read_bundle(first).provenance.route == "native"
    assert read_bundle(second).provenance.route == "onnx"
    np.testing.assert_allclose(embed(first)[1], embed(second)[1], atol=1e-6)


def _rename_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("position_ids", TensorProto.INT64, ["rows", "length"]))


def _drop_mask(model: onnx.ModelProto) -> None:
    kept = [value for value in model.graph.input if value.name != "attention_mask"]
    del model.graph.input[:]
    model.graph.input.extend(kept)


def _int32(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32


def _flat(model: onnx.ModelProto) -> None:
    del model.graph.output[0].type.tensor_type.shape.dim[2:]


def _narrow(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 7


def _old(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 12


def _of_no_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].domain = "com.microsoft"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_rename_input, "input position_ids is not understood"),
        (_drop_mask, "it has no input attention_mask"),
        (_int32, "is not int64"),
        (_flat, "none of its outputs"),
        (_narrow, "last_hidden_state is 7 wide"),
        (_old, "opset 12 is older"),
        (_of_no_opset, "does not say of which opset"),
    ],
)
def test_refusals(tmp_path: Path, compiled: Compile, spoil: Callable[[onnx.ModelProto], None], message: str) -> None:
    model = encoder()
    spoil(model)
    with pytest.raises(CheckpointError, match=message):
        compiled(write(tmp_path / "exported", model))


def test_external_data_under_another_name_is_refused(tmp_path: Path, compiled: Compile) -> None:
    """Its content would not be part of the recipe, so a change would go unseen."""
    with pytest.raises(CheckpointError, match=r"weights lie in weights\.bin"):
        compiled(write(tmp_path / "exported", encoder(), external="weights.bin"))


def test_corrupt_and_missing_graphs(tmp_path: Path, compiled: Compile) -> None:
    folder = write(tmp_path / "exported", encoder())
    (folder / "onnx" / "model.onnx").write_bytes(b"\xff\xff not protobuf")
    with pytest.raises(CheckpointError, match="is corrupt"):
        compiled(folder)
    (folder / "onnx" / "model.onnx").unlink()
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor onnx/model\.onnx"):
        compiled(folder)
    with pytest.raises(CheckpointError, match=r"has no onnx/model\.onnx"):
        compiled(Tiny().write(tmp_path / "native"), route="onnx")


def test_a_prompt_that_is_not_pooled(tmp_path: Path, compiled: Compile) -> None:
    """The mask is one more input of a graph that others made."""
    pooling = {"pooling_mode": ["weightedmean", "cls"], "embedding_dimension": tiny.HIDDEN, "include_prompt": False}
    folders = [write(tmp_path / "exported", with_segments(encoder())), Tiny().write(tmp_path / "native")]
    rows = [TwoPartRow([2, 10, 11, 12, 13, 3], 3), [2, 14, 3]]
    found = []
    for folder in folders:
        write_json(folder / "1_Pooling" / "config.json", pooling)
        write_json(folder / "modules.json", json.loads((folder / "modules.json").read_text("utf-8"))[:2])
        bundle = compiled(folder)
        found.append(Encoder(bundle, read_bundle(bundle), CPU).run(rows))
    assert "pooling_mask" in read_bundle(bundle).inputs
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
