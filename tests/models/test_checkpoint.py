"""Reading the sentence-transformers files: what is understood, and what is refused with which reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import read_checkpoint
from models.modules import Dense, Normalize, Pooling
from service.errors import CheckpointError
from tests.models import tiny
from tests.models.tiny import Tiny, change_json, write_json


@pytest.mark.parametrize(
    "class_path",
    [
        "sentence_transformers.models",
        "sentence_transformers.sentence_transformer.modules",
        "sentence_transformers.base.modules",
    ],
)
def test_modules_by_old_and_new_class_paths(tmp_path: Path, class_path: str) -> None:
    folder = Tiny(class_path=class_path, dense=tiny.dense_config("activation.Tanh")).write(tmp_path)
    found = read_checkpoint(folder)
    assert found.pooling == Pooling(("mean",), width=tiny.HIDDEN)
    assert found.heads == (Dense(folder / "2_Dense", tiny.HIDDEN, 20, True, "tanh"), Normalize())
    assert (found.dimensions, found.normalized) == (20, True)


@pytest.mark.parametrize(
    ("own", "tokenizer", "positions", "limit"),
    [
        (24, 512, 40, 24),
        (None, 30, 40, 30),
        (None, 1e30, 40, 40),
        (None, None, 40, 40),
        (64, 512, 40, 40),
        (24, 16, 40, 24),
    ],
)
def test_max_seq_length(tmp_path: Path, own: int | None, tokenizer: float | None, positions: int, limit: int) -> None:
    folder = Tiny(sentence_bert={"max_seq_length": own}, config={"max_position_embeddings": positions}).write(tmp_path)
    write_json(folder / "tokenizer_config.json", {"model_max_length": tokenizer})
    assert read_checkpoint(folder).max_seq_length == limit


def test_prompts_and_matryoshka_sizes(tmp_path: Path) -> None:
    saved = {
        "prompts": {"query": "query: ", "document": None},
        "default_prompt_name": "query",
        "similarity_fn_name": "dot",
        "model_type": "SentenceTransformer",
        "matryoshka_dimensions": [32, 8, 16],
    }
    found = read_checkpoint(Tiny(saved=saved).write(tmp_path))
    assert found.prompts == {"query": "query: "}
    assert found.default_prompt_name == "query"
    assert found.matryoshka_dimensions == (8, 16, 32)


def test_a_default_prompt_that_is_null_is_none(tmp_path: Path) -> None:
    saved = {"prompts": {"query": None, "document": "passage: "}, "default_prompt_name": "query"}
    found = read_checkpoint(Tiny(saved=saved).write(tmp_path))
    assert (found.prompts, found.default_prompt_name) == ({"document": "passage: "}, None)


@pytest.mark.parametrize(("name", "kept"), [("dot", "dot"), ("manhattan", "manhattan"), ("maxsim", None), (None, None)])
def test_the_similarity_that_vectors_are_made_for(tmp_path: Path, name: str | None, kept: str | None) -> None:
    """What sentence-transformers does not know for vectors it passes over, too."""
    assert read_checkpoint(Tiny(saved={"similarity_fn_name": name}).write(tmp_path)).similarity_fn_name == kept


def test_the_lengths_file_by_its_older_names(tmp_path: Path) -> None:
    folder = Tiny(sentence_bert={"max_seq_length": 7}).write(tmp_path)
    (folder / "sentence_bert_config.json").rename(folder / "sentence_xlm-roberta_config.json")
    assert read_checkpoint(folder).max_seq_length == 7


def test_files_of_version_6(tmp_path: Path) -> None:
    current = {
        "transformer_task": "feature-extraction",
        "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
        "module_output_name": "token_embeddings",
        "processing_kwargs": {},
        "unpad_inputs": True,
    }
    folder = Tiny(sentence_bert=current).write(tmp_path)
    write_json(
        folder / "2_Normalize" / "config.json",
        {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"},
    )
    write_json(folder / "tokenizer_config.json", {"model_max_length": 20})
    assert read_checkpoint(folder).max_seq_length == 20


def test_without_modules_the_pooling_must_be_given(tmp_path: Path) -> None:
    folder = Tiny().write(tmp_path)
    (folder / "modules.json").unlink()
    with pytest.raises(CheckpointError, match=r"--pooling cls\|mean\|max\|mean_sqrt_len_tokens"):
        read_checkpoint(folder)
    found = read_checkpoint(folder, "cls")
    assert (found.pooling, found.heads) == (Pooling(("cls",)), ())


def test_pooling_that_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--pooling cls contradicts"):
        read_checkpoint(Tiny().write(tmp_path), "cls")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling_mode": "attention"}, "pooling attention is not supported"),
        ({"pooling_mode": None, "pooling_mode_sum_tokens": True}, "pooling_mode_sum_tokens is not understood"),
        ({"pooling_mode": None, "pooling_mode_cls_token": True}, "pooling_mode_mean_tokens is missing"),
        ({"pooling_mode": None}, "it names no pooling mode"),
        ({"pooling_mode": []}, "it names no pooling mode"),
        ({"pooling_mode": None, "pooling_mode_mean_tokens": False}, "it names no pooling mode"),
        ({"embedding_dimension": 31}, "it is for vectors of 31, what comes is 32"),
        ({"weighting": "idf"}, "weighting = 'idf' is not understood"),
        ({"pooling_mode": 3}, "pooling_mode"),
    ],
)
def test_pooling_refusals(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = Tiny().write(tmp_path)
    change_json(folder / "1_Pooling" / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"activation_function": "torch.nn.modules.activation.PReLU"}, "activation.PReLU is none of torch.nn's"),
        ({"activation_function": "transformers.activations.Tanh"}, "transformers.activations.Tanh is none of torch"),
        ({"activation_function": "Tanh"}, "activation_function Tanh is none of torch"),
        ({"module_input_name": "token_embeddings"}, "reads or writes token_embeddings"),
        ({"in_features": 31}, "in_features is 31, what comes is 32"),
        ({"out_features": None}, "out_features: Field required"),
        ({"dropout": 0.5}, "dropout = 0.5 is not understood"),
    ],
)
def test_dense_refusals(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = Tiny(dense=tiny.dense_config("activation.Tanh")).write(tmp_path)
    change_json(folder / "2_Dense" / "config.json", **change)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


def test_pickled_dense_weights_are_refused(tmp_path: Path) -> None:
    folder = Tiny(dense=tiny.dense_config("activation.Tanh")).write(tmp_path)
    (folder / "2_Dense" / "model.safetensors").rename(folder / "2_Dense" / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights are never loaded"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        (["Transformer", "Pooling", "LSTM"], "module LSTM is a network over token vectors"),
        (["Transformer", "CNN", "Pooling"], "module CNN is a network over token vectors"),
        (["Transformer", "WeightedLayerPooling", "Pooling"], "module WeightedLayerPooling needs the vectors of all"),
        (["Transformer", "WordWeights", "Pooling"], "module WordWeights weights each word"),
        (["WordEmbeddings", "Pooling"], "module WordEmbeddings reads words by a tokenizer of its own"),
        (["BoW"], "module BoW reads words by a tokenizer of its own"),
        (["CLIPModel"], "module CLIPModel reads images"),
        (["Router"], "module Router leads queries and documents through models of their own"),
        (["Transformer", "Pooling", "Asym"], "module Asym leads queries and documents"),
        (["Transformer", "Pooling", "Pooling"], "module Pooling is not understood after Pooling"),
        (["Transformer", "Dropout", "Pooling"], "the modules are Transformer, Dropout, Pooling"),
        (["Transformer"], "the modules are Transformer;"),
        ([], "the modules are none"),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, kinds: list[str], message: str) -> None:
    folder = Tiny().write(tmp_path)
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [{"type": f"sentence_transformers.models.{kind}", "path": paths.get(kind, kind)} for kind in kinds]
    write_json(folder / "modules.json", listed)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "custom_st.Transformer"}, "module custom_st.Transformer is code of the model's own"),
        (
            {"kwargs": ["task"]},
            r"models\.Transformer takes arguments of each call \(task\)",
        ),
    ],
)
def test_modules_of_ones_own_are_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    folder = Tiny().write(tmp_path)
    listed = json.loads((folder / "modules.json").read_text("utf-8"))
    write_json(folder / "modules.json", [listed[0] | change, *listed[1:]])
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "transformer_task text-generation"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length = 32 is not understood"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality image"),
        ("config_sentence_transformers.json", {"prompts": {"query": "\ud83d"}}, "surrogates not allowed"),
        ("config_sentence_transformers.json", {"truncate_dim": 0}, "truncate_dim = 0 is no number of dimensions"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "'query' is not among the prompts"),
        ("config.json", {"max_position_embeddings": None}, "max_position_embeddings is None"),
        ("config.json", {"matryoshka_dimensions": "all"}, "matryoshka_dimensions"),
        ("config.json", {"architectures": 1}, "architectures: Input should be a valid list"),
        ("config.json", {"model_type": ["bert"]}, "model_type: Input should be a valid string"),
        ("config.json", {"rope_parameters": 1.5}, "rope_parameters: Input should be a valid dictionary"),
        ("config.json", {"sep_token_id": {}}, "sep_token_id: Input should be a valid integer"),
        ("config.json", {"head_dim": {}}, "head_dim: Input should be a valid integer"),
        ("config.json", {"max_position_embeddings": 2**40}, "max_position_embeddings: Input should be less than"),
        ("config.json", {"n_positions": 2**40}, "n_positions: Input should be less than"),
    ],
)
def test_other_refusals(tmp_path: Path, file: str, change: dict[str, Any], message: str) -> None:
    folder = Tiny().write(tmp_path)
    change_json(folder / file, **change)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


def test_malformed_files_are_named(tmp_path: Path) -> None:
    folder = Tiny().write(tmp_path)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        read_checkpoint(folder)
    (folder / "config.json").write_text('{"a":' * 100_000, "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not JSON"):
        read_checkpoint(folder)
    (folder / "config.json").write_text("[]", "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not a JSON object"):
        read_checkpoint(folder)
    (folder / "modules.json").write_text(json.dumps([{"path": ""}]), "utf-8")
    with pytest.raises(CheckpointError, match=r"modules\.json is malformed"):
        read_checkpoint(folder)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(tmp_path)
