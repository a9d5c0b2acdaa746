"""Tiny models of vectors of tokens: the same weights in the files of sentence-transformers, PyLate and ColBERT."""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.weights import Array
from tests.models import reference, tiny
from tests.models.reference import Wide
from tests.models.tiny import HIDDEN, Tiny, change_json, write_json

WIDTH = 12
QUERY_LENGTH, DOCUMENT_LENGTH = 10, 18
MARKERS = ("[unused0]", "[unused1]", "[Q] ", "[D] ")
VOCABULARY = {**tiny.VOCABULARY, **{word: len(tiny.VOCABULARY) + i for i, word in enumerate((".", "!", *MARKERS))}}
MASK = VOCABULARY["[MASK]"]
SKIPPED = {VOCABULARY["."], VOCABULARY["!"]}
KINDS = ("multi_vector", "pylate", "colbert")


def write(kind: str, folder: Path, **changes: Any) -> Path:
    """`changes` are to the file that says how queries and documents are read; returns `folder`."""
    _encoder(folder)
    {"multi_vector": _multi_vector, "pylate": _pylate, "colbert": _colbert}[kind](folder, changes)
    return folder


def _encoder(folder: Path) -> None:
    Tiny(normalize=False).write(folder)
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    change_json(folder / "config.json", vocab_size=len(VOCABULARY))
    roles = {f"{role}_token": f"[{role.upper()}]" for role in ("pad", "unk", "cls", "sep", "mask")}
    plain = {"tokenizer_class": "PreTrainedTokenizerFast"}  # what the file says, and nothing that a class adds
    write_json(folder / "tokenizer_config.json", {"model_max_length": 40, **plain, **roles})
    content = tiny.tokenizer()
    content["model"]["vocab"] = VOCABULARY
    save_file(weights(), folder / "model.safetensors")
    # As PyLate adds its markers: found only in text that is normalised.
    unmarked = {"special": False, "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
    content["added_tokens"] += [{"id": VOCABULARY[one], "content": one, **unmarked} for one in MARKERS[2:]]
    write_json(folder / "tokenizer.json", content)


def weights() -> dict[str, Array]:
    """Those of the encoder, with rows for more words."""
    found = tiny.weights()
    rng = np.random.default_rng(11)
    more = rng.normal(0, 0.4, (len(VOCABULARY) - len(tiny.VOCABULARY), HIDDEN)).astype(np.float32)
    words = np.concatenate([found["embeddings.word_embeddings.weight"], more])
    return found | {"embeddings.word_embeddings.weight": words}


def projection() -> Array:
    """(WIDTH, HIDDEN)."""
    return np.random.default_rng(5).normal(0, 0.4, (WIDTH, HIDDEN)).astype(np.float32)


def _dense(folder: Path, **config: Any) -> None:
    shape = {"in_features": HIDDEN, "out_features": WIDTH, "bias": False}
    identity = {"activation_function": "torch.nn.modules.linear.Identity"}
    write_json(folder / "1_Dense" / "config.json", {**shape, **identity, **config})
    save_file({"linear.weight": projection()}, folder / "1_Dense" / "model.safetensors")


def _modules(folder: Path, *kinds: tuple[str, str]) -> None:
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(kinds)]
    write_json(folder / "modules.json", listed)


def _multi_vector(folder: Path, changes: dict[str, Any]) -> None:
    of_tokens = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    expansion = {"strategy": "fixed", "attend": False, "token": None, "length": QUERY_LENGTH}
    lengths = {"query_length": QUERY_LENGTH, "document_length": DOCUMENT_LENGTH, "query_expansion": expansion}
    write_json(folder / "sentence_bert_config.json", lengths | changes)
    _dense(folder, **of_tokens)
    mask = {"skiplist_words": list(".!?"), "skiplist_tasks": ["document"], "keep_only_token_ids": None}
    write_json(folder / "2_MultiVectorMask" / "config.json", mask)
    write_json(folder / "3_Normalize" / "config.json", of_tokens)
    base = "sentence_transformers.base.modules"
    own = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    _modules(
        folder,
        ("", f"{base}.transformer.Transformer"),
        ("1_Dense", f"{base}.dense.Dense"),
        ("2_MultiVectorMask", own),
        ("3_Normalize", f"{base}.normalize.Normalize"),
    )
    prompts = {"query": "q ", "document": "d "}
    write_json(folder / "config_sentence_transformers.json", {"model_type": "MultiVectorEncoder", "prompts": prompts})


def _pylate(folder: Path, changes: dict[str, Any]) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 9, "do_lower_case": False})
    _dense(folder, use_residual=False)
    _modules(folder, ("", "sentence_transformers.models.Transformer"), ("1_Dense", "pylate.models.Dense.Dense"))
    saved = {
        "model_type": "ColBERT",
        "prompts": {"query": "", "document": ""},
        "similarity_fn_name": "MaxSim",
        "query_prefix": "[Q] ",
        "document_prefix": "[D] ",
        "query_length": QUERY_LENGTH,
        "document_length": DOCUMENT_LENGTH,
        "do_query_expansion": True,
        "attend_to_expansion_tokens": True,
        "skiplist_words": list(string.punctuation),
    }
    write_json(folder / "config_sentence_transformers.json", saved | changes)


def _colbert(folder: Path, changes: dict[str, Any]) -> None:
    change_json(folder / "config.json", architectures=["HF_ColBERT"])
    tensors = {f"bert.{name}": value for name, value in weights().items()}
    save_file(tensors | {"linear.weight": projection()}, folder / "model.safetensors", {"format": "pt"})
    metadata = {
        "dim": WIDTH,
        "query_token_id": "[unused0]",
        "doc_token_id": "[unused1]",
        "query_maxlen": QUERY_LENGTH,
        "doc_maxlen": DOCUMENT_LENGTH,
        "mask_punctuation": True,
        "attend_to_mask_tokens": False,
        "similarity": "cosine",
    }
    write_json(folder / "artifact.metadata", {k: v for k, v in (metadata | changes).items() if v is not None})


MARKED = {"multi_vector": ("q", "d"), "pylate": ("[Q] ", "[D] "), "colbert": ("[unused0]", "[unused1]")}
"""Kind → the token before a query, and that before a document."""


def ids_of(kind: str, role: str, words: Sequence[str]) -> list[int]:
    """A whole row of words that are tokens, cut to its length."""
    marker = MARKED[kind][role == "document"]
    length = QUERY_LENGTH if role == "query" else DOCUMENT_LENGTH
    row = [VOCABULARY[word] for word in ("[CLS]", marker, *words)][: length - 1]
    return [*row, VOCABULARY["[SEP]"]]


def expected(kind: str, role: str, words: Sequence[str]) -> Wide:
    """(tokens that count, WIDTH), in float64."""
    row = ids_of(kind, role, words)
    read = len(row)
    if role == "query":
        row = row + [MASK] * (QUERY_LENGTH - read)
    config = tiny.config()
    states = reference.hidden_states(row, weights(), config, read=len(row) if kind == "pylate" else read)
    vectors = states @ projection().T.astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    kept = [i for i, token in enumerate(row) if role == "query" or token not in SKIPPED]
    return np.asarray(vectors[kept])
