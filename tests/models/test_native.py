"""The native graph against an independent reference in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from models.verify import token_rows
from models.weights import read_weights
from service.bundle import read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.types import Matrix
from tests.models import reference, tiny
from tests.models.conftest import Compile
from tests.models.scores import write_cross_encoder
from tests.models.sparse import write_splade
from tests.models.tiny import Tiny, change_json, write_json


def embed(bundle_folder: Path, texts: list[str] = tiny.TEXTS) -> tuple[list[list[int]], Matrix]:
    """Token rows and their vectors, all in one padded batch."""
    bundle = read_bundle(bundle_folder)
    rows = token_rows(bundle_folder, bundle, texts)
    return rows, Encoder(bundle_folder, bundle, CPU).run(rows)


def expected(rows: list[list[int]], mode: str, config: dict[str, Any] | None = None) -> list[reference.Wide]:
    weights = tiny.weights()
    settings = tiny.config() | (config or {})
    return [reference.pool(reference.hidden_states(row, weights, settings), mode) for row in rows]


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_hidden_activations(tmp_path: Path, compiled: Compile, activation: str) -> None:
    config = {"hidden_act": activation}
    rows, vectors = embed(compiled(Tiny(config=config, normalize=False).write(tmp_path / "tiny")))
    np.testing.assert_allclose(vectors, np.stack(expected(rows, "mean", config)), atol=2e-5)


def test_a_prefix_of_a_task_model_changes_nothing(tmp_path: Path, compiled: Compile) -> None:
    _, plain = embed(compiled(Tiny().write(tmp_path / "plain")))
    _, prefixed = embed(compiled(Tiny(prefix="bert.").write(tmp_path / "prefixed")))
    np.testing.assert_array_equal(plain, prefixed)


def test_half_precision_weights_are_widened(tmp_path: Path, compiled: Compile) -> None:
    _, full = embed(compiled(Tiny().write(tmp_path / "full")))
    _, half = embed(compiled(Tiny(dtype=np.float16).write(tmp_path / "half")))
    np.testing.assert_allclose(half, full, atol=5e-3)


def test_bfloat16_is_the_upper_half_of_float32(tmp_path: Path) -> None:
    value = np.array([1.0, -2.5, 3.140625, 1e-30], np.float32)
    upper = (value.view(np.uint32) >> 16).astype(np.uint16)
    header = json.dumps({"x": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes())
    got = read_weights([path]).get("x", 4)
    np.testing.assert_array_equal(got, (upper.astype(np.uint32) << 16).view(np.float32))
    np.testing.assert_allclose(got[:3], value[:3])


def _noise(tensors: dict[str, Any], path: Path) -> None:
    from safetensors.numpy import save_file

    rng = np.random.default_rng(1)
    save_file({name: rng.normal(size=found.shape).astype(np.float32) for name, found in tensors.items()}, path)


@pytest.mark.parametrize("name", ["pytorch_model", "training_state", "adapter", "model-00001-of-00001"])
def test_other_files_are_not_the_models_weights(tmp_path: Path, compiled: Compile, name: str) -> None:
    """As in transformers: model.safetensors is all of them, whatever else lies beside it."""
    _, alone = embed(compiled(Tiny().write(tmp_path / "alone")))
    folder = Tiny().write(tmp_path / "beside")
    _noise(load_file(folder / "model.safetensors"), folder / f"{name}.safetensors")
    np.testing.assert_array_equal(embed(compiled(folder))[1], alone)


def test_weights_split_over_several_files(tmp_path: Path, compiled: Compile) -> None:
    """Those of the index, and none that it does not name."""
    from safetensors.numpy import save_file

    _, whole = embed(compiled(Tiny().write(tmp_path / "whole")))
    folder = Tiny().write(tmp_path / "split")
    _noise(load_file(folder / "model.safetensors"), folder / "model-00003-of-00003.safetensors")
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    mapped: dict[str, str] = {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / file)
        mapped |= dict.fromkeys(part, file)
    write_json(folder / "model.safetensors.index.json", {"weight_map": mapped})
    np.testing.assert_array_equal(embed(compiled(folder))[1], whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "t5"}, "model_type 't5' cannot be built"),
        ({"hidden_act": "silu"}, "hidden_act silu is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type relative_key is not supported"),
        ({"is_decoder": True}, "a decoder"),
        ({"num_attention_heads": 0}, "num_attention_heads: Input should be greater than 0"),
        ({"num_attention_heads": 5}, "not a multiple of 5 heads"),
        ({"intermediate_size": 64}, r"encoder.layer.0.intermediate.dense.weight has shape \(48, 32\)"),
        ({"num_hidden_layers": 3}, r"no tensor encoder.layer.2.attention.self.query.weight"),
        ({"hidden_size": "wide"}, "hidden_size"),
    ],
)
def test_what_bert_cannot_be_is_refused(
    tmp_path: Path, compiled: Compile, change: dict[str, Any], message: str
) -> None:
    folder = Tiny().write(tmp_path / "tiny")
    change_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        compiled(folder)


def test_corrupt_safetensors_is_refused(tmp_path: Path, compiled: Compile) -> None:
    folder = Tiny().write(tmp_path / "tiny")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is corrupt"):
        compiled(folder)


def test_quantised_weights_are_refused(tmp_path: Path, compiled: Compile) -> None:
    from safetensors.numpy import save_file

    folder = Tiny().write(tmp_path / "tiny")
    save_file({"x": np.zeros(3, np.int8)}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="tensor x has type I8"):
        compiled(folder)


def test_code_of_the_authors_own_is_refused_for_what_it_computes(tmp_path: Path, compiled: Compile) -> None:
    """transformers loads rerankers and sparse models by another entry of auto_map than encoders."""
    scores = {"AutoModelForSequenceClassification": "modeling_other.OtherClassifier"}
    words = {"AutoModelForMaskedLM": "modeling_other.OtherMasked"}
    reranker, sparse = write_cross_encoder(tmp_path / "reranker"), write_splade(tmp_path / "sparse")
    for folder, own, other in ((reranker, scores, words), (sparse, words, scores)):
        change_json(folder / "config.json", auto_map=own)
        with pytest.raises(CheckpointError, match=rf"auto_map says that {next(iter(own.values()))} computes"):
            compiled(folder)
        change_json(folder / "config.json", auto_map=other)
        compiled(folder)
    compiled(Tiny(config={"auto_map": scores | words}).write(tmp_path / "encoder"))
