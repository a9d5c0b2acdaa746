"""BERT's relatives against BERT's reference, in the ways in which they differ from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint import read_checkpoint
from models.compile import compile_checkpoint
from models.families.bert import distance_buckets
from models.weights import Array, Weights
from service.errors import CheckpointError
from tests.models import reference, tiny
from tests.models.conftest import Compile
from tests.models.families.states import ROWS, states
from tests.models.test_int8 import embed
from tests.models.tiny import Tiny, change_json, write_json

PAD = 1
TOLERANCE = 2e-5

DISTILBERT = (
    (".attention.self.query", ".attention.q_lin"),
    (".attention.self.key", ".attention.k_lin"),
    (".attention.self.value", ".attention.v_lin"),
    (".attention.output.dense", ".attention.out_lin"),
    (".attention.output.LayerNorm", ".sa_layer_norm"),
    (".intermediate.dense", ".ffn.lin1"),
    (".output.dense", ".ffn.lin2"),
    (".output.LayerNorm", ".output_layer_norm"),
    ("encoder.layer.", "transformer.layer."),
)
MPNET = (
    (".attention.self.query", ".attention.attn.q"),
    (".attention.self.key", ".attention.attn.k"),
    (".attention.self.value", ".attention.attn.v"),
    (".attention.output.dense", ".attention.attn.o"),
    (".attention.output.LayerNorm", ".attention.LayerNorm"),
)


def assert_states(found: list[Array], weights: Mapping[str, Array], config: Mapping[str, Any]) -> None:
    for state, row in zip(found, ROWS, strict=True):
        np.testing.assert_allclose(state, reference.hidden_states(row, weights, config), atol=TOLERANCE)


def renamed(weights: Mapping[str, Array], names: tuple[tuple[str, str], ...], prefix: str = "") -> dict[str, Array]:
    found = {}
    for name, tensor in weights.items():
        for old, new in names:
            name = name.replace(old, new)
        found[prefix + name] = tensor
    return found


def counted_from_padding(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Positions as BERT's reference has them, of a family that begins behind the padding's id."""
    table = "embeddings.position_embeddings.weight"
    return {**weights, table: weights[table][PAD + 1 :]}


def without_segments(weights: Mapping[str, Array]) -> dict[str, Array]:
    table = "embeddings.token_type_embeddings.weight"
    return {**weights, table: np.zeros_like(weights[table])}


@pytest.mark.parametrize("model_type", ["roberta", "xlm-roberta", "camembert"])
@pytest.mark.parametrize("prefix", ["", "roberta."])
def test_roberta_counts_positions_from_behind_its_padding(tmp_path: Path, model_type: str, prefix: str) -> None:
    config = tiny.config() | {"model_type": model_type, "pad_token_id": PAD}
    weights = tiny.weights()
    found = states(tmp_path, config, renamed(weights, (), prefix))
    assert_states(found, counted_from_padding(weights), config)


def test_padding_inside_of_a_text_is_not_counted(tmp_path: Path) -> None:
    """Its own position is the padding's, and the next token has the position it would have without it."""
    config = tiny.config() | {"model_type": "roberta", "pad_token_id": PAD}
    weights = tiny.weights()
    row = [2, 9, PAD, 17, 3]
    table = weights["embeddings.position_embeddings.weight"]
    placed = {**weights, "embeddings.position_embeddings.weight": table[[2, 3, PAD, 4, 5]]}
    found = states(tmp_path, config, weights, [row])
    np.testing.assert_allclose(found[0], reference.hidden_states(row, placed, config), atol=TOLERANCE)


@pytest.mark.parametrize(("model_type", "room"), [("bert", 40), ("roberta", 38), ("xlm-roberta", 38), ("mpnet", 38)])
def test_the_longest_row_is_what_the_positions_reach(tmp_path: Path, model_type: str, room: int) -> None:
    folder = Tiny(config={"model_type": model_type, "pad_token_id": PAD}, sentence_bert={}).write(tmp_path)
    assert read_checkpoint(folder).max_seq_length == room


def test_distilbert_has_other_names_and_no_segments(tmp_path: Path) -> None:
    config = {
        "model_type": "distilbert",
        "vocab_size": len(tiny.VOCABULARY),
        "dim": tiny.HIDDEN,
        "n_layers": tiny.LAYERS,
        "n_heads": tiny.HEADS,
        "hidden_dim": tiny.INTERMEDIATE,
        "max_position_embeddings": tiny.POSITIONS,
        "activation": "gelu",
    }
    weights = tiny.weights()
    found = states(tmp_path, config, renamed(weights, DISTILBERT, "distilbert."))
    assert_states(found, without_segments(weights), tiny.config())


def test_electra_may_project_narrow_word_vectors(tmp_path: Path) -> None:
    """Where they are as wide as the layers, it is BERT."""
    config = tiny.config() | {"model_type": "electra", "embedding_size": tiny.HIDDEN}
    weights = tiny.weights()
    assert_states(states(tmp_path, config, renamed(weights, (), "electra.")), weights, config)
    rng = np.random.default_rng(1)
    narrow = {name: tensor[..., :20] if name.startswith("embeddings.") else tensor for name, tensor in weights.items()}
    narrow["embeddings_project.weight"] = rng.normal(0, 0.3, (tiny.HIDDEN, 20)).astype(np.float32)
    narrow["embeddings_project.bias"] = rng.normal(0, 0.3, tiny.HIDDEN).astype(np.float32)
    found = states(tmp_path, config | {"embedding_size": 20}, narrow)
    assert [state.shape for state in found] == [(len(row), tiny.HIDDEN) for row in ROWS]
    tied = {**narrow, "embeddings_project.weight": np.zeros((tiny.HIDDEN, 20), np.float32)}
    assert not np.allclose(found[0], states(tmp_path, config | {"embedding_size": 20}, tied)[0], atol=0.1)


def test_mpnet_adds_a_bias_by_distance(tmp_path: Path) -> None:
    config = tiny.config() | {"model_type": "mpnet"}
    table = np.random.default_rng(2).normal(0, 1, (32, tiny.HEADS)).astype(np.float32)
    weights = tiny.weights()
    found = states(tmp_path, config, renamed(weights, MPNET) | {"encoder.relative_attention_bias.weight": table})
    placed = without_segments(counted_from_padding(weights))
    for state, row in zip(found, ROWS, strict=True):
        place = np.arange(len(row))
        bias = np.vectorize(bucket)(place[None, :] - place[:, None])  # (query, key)
        expected = reference.hidden_states(row, placed, config, bias=table.astype(np.float64)[bias].transpose(2, 0, 1))
        np.testing.assert_allclose(state, expected, atol=TOLERANCE)


def bucket(distance: int) -> int:
    """T5's, as its paper says it: of 16 buckets for either direction 8 are exact, the others reach to 128."""
    direction, away = 16 if distance > 0 else 0, abs(distance)
    if away < 8:
        return direction + away
    return direction + min(15, 8 + int(math.log(away / 8) / math.log(128 / 8) * 8 + 1e-9))


def test_buckets_of_distance() -> None:
    far = np.arange(-600, 601)
    np.testing.assert_array_equal(distance_buckets(far, 32), [bucket(int(one)) for one in far])


def test_segments_are_read_where_the_graph_has_them(tmp_path: Path) -> None:
    """A cross-encoder's second text is of the second segment."""
    from models.graph import Graph
    from models.native import FAMILIES
    from service.bundle import MODEL_ONNX, TOKEN_OUTPUT
    from service.runtime.providers import CPU
    from service.runtime.session import Session

    weights, row = tiny.weights(), ROWS[0]
    graph = Graph()
    graph.input("token_type_ids")
    hidden = FAMILIES["bert"].build(graph, tiny.config(), Weights(weights))
    graph.output(hidden, TOKEN_OUTPUT, "rows", "length", "hidden")
    graph.save(tmp_path)
    ids = np.array([row])
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.ones_like(ids)}
    found = Session(tmp_path / MODEL_ONNX, CPU, 1).run([TOKEN_OUTPUT], feeds)[0][0]
    table = "embeddings.token_type_embeddings.weight"
    second = {**weights, table: weights[table][::-1]}
    np.testing.assert_allclose(found, reference.hidden_states(row, second, tiny.config()), atol=TOLERANCE)


def test_long_rows_give_what_short_ones_do(tmp_path: Path) -> None:
    """Families with many positions attend by another kernel."""
    config = tiny.config() | {"model_type": "xlm-roberta", "pad_token_id": PAD, "max_position_embeddings": 3000}
    weights = tiny.weights()
    table = "embeddings.position_embeddings.weight"
    weights[table] = np.random.default_rng(3).normal(0, 0.4, (3000, tiny.HIDDEN)).astype(np.float32)
    expected = counted_from_padding(weights)
    assert_states(states(tmp_path, config, weights), expected, config)
    alone = [states(tmp_path, config, weights, [row])[0] for row in ROWS]
    assert_states(alone, expected, config)


def test_old_names_of_normalisations(tmp_path: Path, compiled: Compile) -> None:
    from safetensors.numpy import load_file, save_file

    folder = Tiny().write(tmp_path / "tiny")
    plain, _ = embed(compiled(folder), tiny.TEXTS)
    tensors = load_file(folder / "model.safetensors")
    old = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    save_file(renamed(tensors, old), folder / "model.safetensors")
    found, _ = embed(compiled(folder), tiny.TEXTS)
    np.testing.assert_array_equal(plain, found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "roberta", "position_embedding_type": "relative_key"}, "position_embedding_type relative_key"),
        ({"model_type": "mpnet", "relative_attention_num_buckets": 16}, "relative_attention_num_buckets 16"),
        ({"model_type": "electra", "embedding_size": "narrow"}, "embedding_size is 'narrow'"),
        ({"model_type": "electra", "embedding_size": 16}, r"word_embeddings.weight has shape \(59, 32\)"),
        ({"model_type": "distilbert"}, "dim"),
        ({"model_type": "mpnet"}, r"no tensor encoder.layer.0.attention.attn.q.weight"),
        ({"model_type": "roberta", "is_decoder": True}, "a decoder"),
        ({"auto_map": {"AutoModel": "modeling_other.OtherModel"}}, "auto_map"),
    ],
)
def test_what_they_cannot_be_is_refused(
    tmp_path: Path, compiled: Compile, change: dict[str, Any], message: str
) -> None:
    folder = Tiny().write(tmp_path / "tiny")
    change_json(folder / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        compiled(folder, route="native")


@pytest.mark.parametrize("model_type", ["roberta", "electra"])
def test_int8_comes_with_the_layers(tmp_path: Path, compiled: Compile, model_type: str) -> None:
    config = {"model_type": model_type, "embedding_size": tiny.HIDDEN, "pad_token_id": PAD}
    source = Tiny(config=config).write(tmp_path / "tiny")
    exact, _ = embed(compiled(source), tiny.TEXTS)
    rounded, batched = embed(compiled(source, precision="int8"), tiny.TEXTS)
    assert 0.99 < (exact * rounded).sum(axis=1).min() < 0.99999
    assert (rounded.astype(np.float64) * batched).sum(axis=1).min() > 0.999999


def test_int8_of_distilbert(tmp_path: Path, compiled: Compile) -> None:
    from safetensors.numpy import load_file, save_file

    source = Tiny().write(tmp_path / "tiny")
    names = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads"}
    names |= {"intermediate_size": "hidden_dim", "hidden_act": "activation"}
    changed = {names.get(key, key): value for key, value in tiny.config().items()} | {"model_type": "distilbert"}
    write_json(source / "config.json", changed)
    save_file(renamed(load_file(source / "model.safetensors"), DISTILBERT), source / "model.safetensors")
    exact, _ = embed(compiled(source), tiny.TEXTS)
    rounded, batched = embed(compiled(source, precision="int8"), tiny.TEXTS)
    assert 0.99 < (exact * rounded).sum(axis=1).min() < 0.99999
    assert (rounded.astype(np.float64) * batched).sum(axis=1).min() > 0.999999


def test_int8_of_long_rows(tmp_path: Path, compiled: Compile) -> None:
    from safetensors.numpy import load_file, save_file

    source = Tiny(config={"model_type": "xlm-roberta", "pad_token_id": PAD, "max_position_embeddings": 3000}).write(
        tmp_path / "tiny"
    )
    tensors = load_file(source / "model.safetensors")
    rng = np.random.default_rng(3)
    tensors["embeddings.position_embeddings.weight"] = rng.normal(0, 0.4, (3000, tiny.HIDDEN)).astype(np.float32)
    save_file(tensors, source / "model.safetensors")
    exact, _ = embed(compiled(source), tiny.TEXTS)
    rounded, batched = embed(compiled(source, precision="int8"), tiny.TEXTS)
    assert 0.99 < (exact * rounded).sum(axis=1).min() < 0.99999
    assert (rounded.astype(np.float64) * batched).sum(axis=1).min() > 0.999999


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mpnet"}, "model_type 'mpnet' has no int8 graph"),
        ({"model_type": "electra", "embedding_size": 16}, "projected word vectors"),
    ],
)
def test_families_without_int8_say_so(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """Before anything is calibrated, which takes minutes for a large model."""
    from models import native

    checkpoint = read_checkpoint(Tiny(config=config).write(tmp_path))
    with pytest.raises(CheckpointError, match=message) as refused:
        native.build_int8(checkpoint, {})
    assert "leave --precision out" in str(refused.value)


def test_the_document_names_every_family() -> None:
    from models.native import FAMILIES

    document = (Path(__file__).parents[3] / "docs" / "MODELS.md").read_text("utf-8")
    served = document.partition("## The native route")[2].partition("## ")[0]
    assert {name for name in FAMILIES if f"`{name}`" not in served} == set()


def test_the_public_way_to_compile_knows_them(tmp_path: Path) -> None:
    source = Tiny(config={"model_type": "roberta", "pad_token_id": PAD}, sentence_bert={}).write(tmp_path / "tiny")
    folder = compile_checkpoint(str(source), cache_dir=tmp_path / "cache", say=lambda line: None)
    assert (folder / "model.onnx").is_file()
