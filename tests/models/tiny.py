"""Tiny BERT checkpoints with random weights, in the files sentence-transformers writes."""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.weights import Array

HIDDEN, LAYERS, HEADS, INTERMEDIATE, POSITIONS = 32, 2, 4, 48, 40
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase]
VOCABULARY = {
    token: i for i, token in enumerate([*TOKENS, *(f"##{c}" for c in string.ascii_lowercase), "river", "mill"])
}
TEXTS = ["", "a", "river", "the river and the mill", "abc def ghi jkl", "the mill grinds the corn of the town " * 3]


@dataclass
class Tiny:
    """What to write; every part can be changed or left out by a test."""

    pooling: dict[str, Any] | None = field(
        default_factory=lambda: {"pooling_mode": "mean", "embedding_dimension": HIDDEN}
    )
    dense: dict[str, Any] | None = None
    heads: list[tuple[str, dict[str, Any], dict[str, Array]]] = field(default_factory=list)  # behind it: kind, …
    normalize: bool = True
    prefix: str = ""
    dtype: type[np.floating[Any]] = np.float32
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)
    sentence_bert: dict[str, Any] = field(default_factory=lambda: {"max_seq_length": 24, "do_lower_case": False})
    saved: dict[str, Any] = field(default_factory=dict)
    class_path: str = "sentence_transformers.models"

    def write(self, folder: Path) -> Path:
        """Returns `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", config() | self.config)
        write_json(folder / "sentence_bert_config.json", self.sentence_bert)
        write_json(folder / "config_sentence_transformers.json", self.saved)
        write_json(folder / "tokenizer_config.json", {"model_max_length": 512})
        write_json(folder / "tokenizer.json", tokenizer())
        tensors = {self.prefix + name: value.astype(self.dtype) for name, value in weights(self.seed).items()}
        save_file(tensors, folder / "model.safetensors")
        self._write_modules(folder)
        return folder

    def _write_modules(self, folder: Path) -> None:
        modules = [("Transformer", "")]
        if self.pooling is not None:
            modules.append(("Pooling", "1_Pooling"))
            write_json(folder / "1_Pooling" / "config.json", self.pooling)
        if self.dense is not None:
            modules.append(("Dense", "2_Dense"))
            write_json(folder / "2_Dense" / "config.json", self.dense)
            save_file(dense_weights(self.dense), folder / "2_Dense" / "model.safetensors")
        for kind, described, tensors in self.heads:
            modules.append((kind, path := f"{len(modules)}_{kind}"))
            write_json(folder / path / "config.json", described)
            if tensors:
                save_file(tensors, folder / path / "model.safetensors")
        if self.normalize:
            modules.append(("Normalize", f"{len(modules)}_Normalize"))
        listed = [
            {"idx": i, "name": str(i), "path": path, "type": f"{self.class_path}.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ]
        write_json(folder / "modules.json", listed)


def config() -> dict[str, Any]:
    return {
        "model_type": "bert",
        "vocab_size": len(VOCABULARY),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }


def dense_config(activation: str, out: int = 20, *, bias: bool = True) -> dict[str, Any]:
    return {
        "in_features": HIDDEN,
        "out_features": out,
        "bias": bias,
        "activation_function": f"torch.nn.modules.{activation}",
    }


def dense_weights(dense: dict[str, Any], seed: int = 7) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    found = {"linear.weight": rng.normal(0, 0.3, (dense["out_features"], dense["in_features"])).astype(np.float32)}
    if dense["bias"]:
        found["linear.bias"] = rng.normal(0, 0.3, dense["out_features"]).astype(np.float32)
    if dense.get("use_residual") and dense["in_features"] != dense["out_features"]:
        found["residual.weight"] = rng.normal(0, 0.3, found["linear.weight"].shape).astype(np.float32)
    return found


def layer_norm_weights(size: int) -> dict[str, Array]:
    rng = np.random.default_rng(8)
    return {f"norm.{part}": rng.normal(1, 0.3, size).astype(np.float32) for part in ("weight", "bias")}


def weights(seed: int = 0) -> dict[str, Array]:
    """Spread wide enough that attention is far from uniform."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(VOCABULARY), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{name}{part}.weight": (HIDDEN, HIDDEN), f"{name}{part}.bias": (HIDDEN,)}
        shapes |= {
            f"{name}intermediate.dense.weight": (INTERMEDIATE, HIDDEN),
            f"{name}intermediate.dense.bias": (INTERMEDIATE,),
        }
        shapes |= {f"{name}output.dense.weight": (HIDDEN, INTERMEDIATE), f"{name}output.dense.bias": (HIDDEN,)}
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes |= {f"{name}{part}.weight": (HIDDEN,), f"{name}{part}.bias": (HIDDEN,)}
    return {name: _drawn(rng, name, shape) for name, shape in shapes.items()}


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Where biases are as large as what they are added to, the states of all tokens are nearly the same in the end."""
    if name.endswith("LayerNorm.weight"):
        return rng.normal(1, 0.2, shape).astype(np.float32)
    size = 1.0 if "word_embeddings" in name else 0.1 if name.endswith("bias") else 0.4
    return rng.normal(0, size, shape).astype(np.float32)


def tokenizer() -> dict[str, Any]:
    special = [
        {
            "id": VOCABULARY[t],
            "content": t,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    ]
    cls, sep = ({"SpecialToken": {"id": t, "type_id": 0}} for t in ("[CLS]", "[SEP]"))
    return {
        "version": "1.0",
        "truncation": {"max_length": 8, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 8},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
            "pair": [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {t: {"id": t, "ids": [VOCABULARY[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")},
        },
        "decoder": None,
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": VOCABULARY,
        },
    }


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def change_json(path: Path, **changes: Any) -> None:
    """Sets keys of a JSON object; None removes one."""
    content = json.loads(path.read_text("utf-8")) | changes
    write_json(path, {key: value for key, value in content.items() if value is not None})
