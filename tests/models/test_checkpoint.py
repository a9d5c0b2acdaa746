"""Reading the sentence-transformers files: what is understood, and what is refused with which reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import Dense, Normalize, read_checkpoint
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
    assert found.pooling == "mean"
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
    with pytest.raises(CheckpointError, match="--pooling cls, mean or max"):
        read_checkpoint(folder)
    found = read_checkpoint(folder, "cls")
    assert (found.pooling, found.heads) == ("cls", ())


def test_pooling_that_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="--pooling cls contradicts"):
        read_checkpoint(Tiny().write(tmp_path), "cls")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pooling_mode": "lasttoken"}, "pooling lasttoken is not supported"),
        ({"pooling_mode": ["cls", "mean"]}, r"exactly one pooling mode is supported, this has cls \+ mean"),
        ({"pooling_mode": None, "pooling_mode_weightedmean_tokens": True}, "pooling weightedmean is not supported"),
        ({"pooling_mode": None, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, r"cls \+ max"),
        ({"pooling_mode": None}, "this has none"),
        ({"include_prompt": False}, "include_prompt = false"),
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
        ({"activation_function": "torch.nn.modules.activation.SiLU"}, "SiLU is not one of identity, tanh, gelu, relu"),
        ({"use_residual": True}, "use_residual is not supported"),
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
        (["Transformer", "Pooling", "LSTM"], "module LSTM is not understood after Pooling"),
        (["Transformer", "WordWeights", "Pooling"], "the modules are Transformer, WordWeights, Pooling"),
        (["StaticEmbedding"], "the modules are StaticEmbedding"),
        ([], "the modules are "),
    ],
)
def test_other_modules_are_refused(tmp_path: Path, kinds: list[str], message: str) -> None:
    folder = Tiny().write(tmp_path)
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    write_json(folder / "modules.json", [{"type": f"x.{kind}", "path": paths.get(kind, kind)} for kind in kinds])
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "max_seq_length"),
        ("sentence_bert_config.json", {"transformer_task": "text-generation"}, "transformer_task text-generation"),
        ("sentence_bert_config.json", {"query_length": 32}, "query_length = 32 is not understood"),
        ("sentence_bert_config.json", {"modality_config": {"image": {}}}, "modality image"),
        ("config_sentence_transformers.json", {"truncate_dim": 16}, "truncate_dim = 16 is not supported"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "model_type SparseEncoder"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "'query' is not among the prompts"),
        ("config.json", {"max_position_embeddings": None}, "max_position_embeddings is None"),
        ("config.json", {"matryoshka_dimensions": "all"}, "matryoshka_dimensions"),
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
    (folder / "config.json").write_text("[]", "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json is not a JSON object"):
        read_checkpoint(folder)
    (folder / "modules.json").write_text(json.dumps([{"path": ""}]), "utf-8")
    with pytest.raises(CheckpointError, match=r"modules\.json is malformed"):
        read_checkpoint(folder)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        read_checkpoint(tmp_path)
