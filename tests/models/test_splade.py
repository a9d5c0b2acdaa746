"""Sparse models: their files, their graph against a reference in float64, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from models import splade
from models.graph import Graph
from models.mlm_head import MlmHead
from models.native import family_of
from models.verify import check, token_rows
from models.weights import read_weights
from service.bundle import read_bundle, read_golden
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.types import Matrix
from tests.models import tiny
from tests.models.conftest import Compile
from tests.models.sparse import expected_weights, write_masked_model, write_splade
from tests.models.tiny import change_json, write_json


def weights_of(folder: Path) -> tuple[list[list[int]], Matrix]:
    """Token rows and what the graph gives for them, all in one padded batch."""
    bundle = read_bundle(folder)
    rows = token_rows(folder, bundle, tiny.TEXTS)
    return rows, Encoder(folder, bundle, CPU).run(rows)


@pytest.mark.parametrize("strategy", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_the_graph_matches_the_reference(
    tmp_path: Path, compiled: Compile, monkeypatch: pytest.MonkeyPatch, strategy: str, activation: str
) -> None:
    monkeypatch.setattr(splade, "_SLICE", 25)  # so that this small vocabulary is cut, too, and not evenly
    pooling = {"pooling_strategy": strategy, "activation_function": activation}
    folder = compiled(write_splade(tmp_path / "splade", pooling))
    rows, vectors = weights_of(folder)
    wanted = np.stack([expected_weights(row, strategy, activation) for row in rows])
    assert 0 < (wanted > 0).mean() < 0.9
    np.testing.assert_allclose(vectors, wanted, atol=2e-5)
    bundle = read_bundle(folder)
    assert (bundle.task, bundle.dimensions, bundle.pooling) == ("sparse", len(tiny.VOCABULARY), "splade")
    assert len({len(row) for row in rows}) > 3


def test_a_plain_masked_language_model_needs_the_word(tmp_path: Path, compiled: Compile) -> None:
    source = write_masked_model(tmp_path / "plain")
    with pytest.raises(CheckpointError, match="does not say how token vectors become one vector"):
        compiled(source)
    rows, vectors = weights_of(compiled(source, pooling="splade"))
    np.testing.assert_allclose(vectors, np.stack([expected_weights(row) for row in rows]), atol=2e-5)


@pytest.mark.parametrize("strategy", ["max", "sum"])
def test_a_found_graph_has_the_logits_already(tmp_path: Path, compiled: Compile, strategy: str) -> None:
    source = write_splade(tmp_path / "exported", {"pooling_strategy": strategy})
    checkpoint = splade.read_splade(source, None)
    graph, weights = Graph(), read_weights([source / "model.safetensors"])
    head = MlmHead(graph, checkpoint, weights)
    hidden = head.transform(family_of(checkpoint).build(graph, checkpoint.config, weights))
    logits = graph.op("Add", head.products(hidden, 0, checkpoint.vocab_size), head.bias())
    graph.output(logits, "logits", "rows", "length", checkpoint.vocab_size)
    (source / "onnx").mkdir()
    graph.save(source / "onnx")
    (source / "model.safetensors").unlink()
    rows, vectors = weights_of(compiled(source))
    np.testing.assert_allclose(vectors, np.stack([expected_weights(row, strategy) for row in rows]), atol=2e-5)


def test_golden_weights_are_few_numbers_and_are_checked(tmp_path: Path, compiled: Compile) -> None:
    folder = compiled(write_splade(tmp_path / "splade"))
    golden = read_golden(folder)
    assert golden.indices is not None
    assert [len(one) for one in golden.indices] == [len(one) for one in golden.vectors]
    assert all(number > 0 for one in golden.vectors for number in one)
    assert check(folder).passed
    content = json.loads((folder / "golden.json").read_text("utf-8"))
    content["vectors"][0], content["indices"][0] = [1.0], [7]
    write_json(folder / "golden.json", content)
    files = json.loads((folder / "bundle.json").read_text("utf-8"))["files"]
    change_json(folder / "bundle.json", files={name: one for name, one in files.items() if name != "golden.json"})
    assert not check(folder).passed


def test_an_untied_decoder_is_the_one_that_counts(tmp_path: Path, compiled: Compile) -> None:
    source = write_masked_model(tmp_path / "untied")
    change_json(source / "config.json", tie_word_embeddings=False)
    tensors = load_file(source / "model.safetensors")
    words = tensors["bert.embeddings.word_embeddings.weight"]
    with pytest.raises(CheckpointError, match=r"no tensor cls\.predictions\.decoder\.weight"):
        compiled(source, pooling="splade")
    save_file(tensors | {"cls.predictions.decoder.weight": words[::-1].copy()}, source / "model.safetensors")
    rows, vectors = weights_of(compiled(source, pooling="splade"))
    bias = tensors["cls.predictions.bias"]
    wanted = np.stack([expected_weights(row) for row in rows])
    logits = np.expm1(wanted)
    same = (logits[:, ::-1] > 0) & (vectors > 0)
    np.testing.assert_allclose((np.expm1(vectors) - bias)[same], (logits - bias)[:, ::-1][same], atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "saved", "message"),
    [
        ({"pooling_strategy": "mean"}, {}, "pooling_strategy"),
        ({"activation_function": "gelu"}, {}, "activation_function"),
        ({"top": 3}, {}, "top = 3 is not understood"),
        ({}, {"max_active_dims": 0}, "max_active_dims"),
        ({}, {"model_type": "SentenceTransformer"}, "model_type SentenceTransformer"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, compiled: Compile, pooling: dict[str, Any], saved: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message):
        compiled(write_splade(tmp_path / "splade", pooling, **saved))


def test_other_modules_are_refused(tmp_path: Path, compiled: Compile) -> None:
    source = write_splade(tmp_path / "router")
    kinds = ["sentence_transformers.models.Router"]
    write_json(source / "modules.json", [{"idx": 0, "path": "", "type": kind} for kind in kinds])
    with pytest.raises(CheckpointError, match="the modules are Router"):
        compiled(source)


def test_a_checkpoint_without_the_head_is_refused(tmp_path: Path, compiled: Compile) -> None:
    source = write_splade(tmp_path / "headless")
    change_json(source / "config.json", architectures=["BertModel"])
    with pytest.raises(CheckpointError, match="no head for masked words"):
        compiled(source)
    with pytest.raises(CheckpointError, match="contradicts"):
        compiled(source, pooling="splade")
