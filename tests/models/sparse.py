"""Tiny checkpoints of masked language models, in the files that sentence-transformers' SparseEncoder writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.weights import Array
from tests.models import reference, tiny
from tests.models.reference import Wide
from tests.models.tiny import HIDDEN, VOCABULARY, Tiny, change_json, write_json

_HEAD = "cls.predictions."


def write_splade(folder: Path, pooling: dict[str, Any] | None = None, **saved: Any) -> Path:
    """`pooling` is 1_SpladePooling/config.json; returns `folder`."""
    write_masked_model(folder)
    write_json(folder / "1_SpladePooling" / "config.json", pooling or {"pooling_strategy": "max"})
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.sparse_encoder.models.MLMTransformer"},
        {"idx": 1, "path": "1_SpladePooling", "type": "sentence_transformers.sparse_encoder.models.SpladePooling"},
    ]
    write_json(folder / "modules.json", modules)
    write_json(folder / "config_sentence_transformers.json", {"model_type": "SparseEncoder"} | saved)
    return folder


def write_masked_model(folder: Path) -> Path:
    """BertForMaskedLM, with nothing that says what it is for; returns `folder`."""
    Tiny().write(folder)
    for name in ("modules.json", "config_sentence_transformers.json"):
        (folder / name).unlink()
    change_json(folder / "config.json", architectures=["BertForMaskedLM"])
    encoder = {f"bert.{name}": value for name, value in tiny.weights().items()}
    save_file(encoder | head_weights(), folder / "model.safetensors")
    return folder


def head_weights() -> dict[str, Array]:
    """Tied to the embeddings; the bias keeps most weights at 0."""
    rng = np.random.default_rng(3)
    shapes = {"transform.dense.weight": (HIDDEN, HIDDEN), "transform.dense.bias": (HIDDEN,)}
    shapes |= {"transform.LayerNorm.weight": (HIDDEN,), "transform.LayerNorm.bias": (HIDDEN,)}
    found = {_HEAD + name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {f"{_HEAD}bias": rng.normal(-1, 0.4, len(VOCABULARY)).astype(np.float32)}


def expected_weights(row: Sequence[int], strategy: str = "max", activation: str = "relu") -> Wide:
    """(vocabulary,) of an unpadded text, in float64."""
    head = {name.removeprefix(_HEAD): value.astype(np.float64) for name, value in head_weights().items()}
    hidden = reference.hidden_states(row, tiny.weights(), tiny.config())
    hidden = reference.gelu(hidden @ head["transform.dense.weight"].T + head["transform.dense.bias"])
    centred = hidden - hidden.mean(-1, keepdims=True)
    hidden = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + tiny.config()["layer_norm_eps"])
    hidden = hidden * head["transform.LayerNorm.weight"] + head["transform.LayerNorm.bias"]
    logits = hidden @ tiny.weights()["embeddings.word_embeddings.weight"].astype(np.float64).T + head["bias"]
    weighed = np.log1p(np.maximum(logits, 0))
    if activation == "log1p_relu":
        weighed = np.log1p(weighed)
    return np.asarray(weighed.max(0) if strategy == "max" else weighed.sum(0))
