"""A folder of static embeddings → what a bundle needs of it: sentence-transformers' StaticEmbedding, and model2vec's.

Both hold a tokenizer.json and a model.safetensors with a row for every token; texts are tokenised without special
tokens. They differ in what an unknown token is: sentence-transformers gives it its row, model2vec leaves it out. Whose
folder it is follows from the tensors' names, which are the libraries' own: `embedding.weight` or `embeddings`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import Kind, described
from models.descriptions import read_json, read_tokenizer
from models.modules import PYLATE, Head, Modules, Normalize, Pooling, module_list, read_heads
from models.sources import Say
from models.static import MAX_SEQ_LENGTH, Static, as_config, plain, save_rows
from models.tokenizer_file import check_ids, tokens
from models.weights import Array, Weights, read_weights, tensor_names
from service.bundle import TOKENIZER_JSON
from service.errors import CheckpointError

_WEIGHTS = "model.safetensors"
_OF_SENTENCE_TRANSFORMERS = "embedding.weight"
_OF_MODEL2VEC = "embeddings"
_FETCH_AGAIN = "fetch the checkpoint again"


def find(root: Path) -> Path | None:
    """Where the rows of a folder of static embeddings lie; None for any other. Raises CheckpointError."""
    if (root / "modules.json").is_file():
        modules = module_list(root / "modules.json", known=PYLATE)
        return modules[0][1] if modules and modules[0][0] == "StaticEmbedding" else None
    if not ((root / _WEIGHTS).is_file() and (root / TOKENIZER_JSON).is_file()):
        return None
    return root if _OF_MODEL2VEC in tensor_names(root / _WEIGHTS) else None


def write(root: Path, inner: Path, folder: Path, say: Say) -> Static:
    """Writes rows and tokenizer into `folder`; `inner` is what `find` gave. Raises CheckpointError."""
    weights = read_weights([_required(inner / _WEIGHTS)], integers=True)
    content = read_tokenizer(_required(inner / TOKENIZER_JSON))
    is_model2vec = weights.shape(_OF_SENTENCE_TRANSFORMERS) is None
    rows = _folded(weights) if is_model2vec else _matrix(weights, _OF_SENTENCE_TRANSFORMERS)
    check_ids(content, inner / TOKENIZER_JSON, len(rows))
    ignored = _unknown_id(content, len(rows)) if is_model2vec else None
    if ignored is not None:
        rows = rows.copy()
        rows[ignored] = 0
    save_rows(folder, [rows])
    # Special tokens have no place here: both libraries tokenise without.
    content |= {"truncation": None, "padding": None, "post_processor": None}
    (folder / TOKENIZER_JSON).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    count, width = rows.shape
    say(
        f"{count} tokens of {width} dimensions"
        + ("; unknown ones are left out, as in model2vec" if ignored is not None else "")
    )
    modules = Modules(inner, Pooling(("mean",)), _heads(root, inner))
    checkpoint = replace(described(root, modules, Kind(), as_config(count, width)), max_seq_length=MAX_SEQ_LENGTH)
    return Static(checkpoint, plain(count, width, checkpoint.heads, ignored), is_mean=ignored is None)


def _folded(weights: Weights) -> Array:
    """model2vec may share rows between tokens (`mapping`) and weigh tokens (`weights`): one row a token again."""
    rows = _matrix(weights, _OF_MODEL2VEC)
    if (shape := weights.shape("mapping")) is not None:
        mapping = weights.get("mapping", *shape).astype(np.int64)
        if mapping.ndim != 1 or mapping.min(initial=0) < 0 or mapping.max(initial=0) >= len(rows):
            raise CheckpointError(f"the tensor mapping names rows beyond the {len(rows)} there are", _FETCH_AGAIN)
        rows = rows[mapping]
    if weights.shape("weights") is not None:
        rows = rows * weights.get("weights", len(rows))[:, np.newaxis]
    return rows


def _matrix(weights: Weights, name: str) -> Array:
    shape = weights.shape(name)
    if shape is None or len(shape) != 2 or 0 in shape:
        raise CheckpointError(f"the weights have no matrix {name}, but {shape or 'nothing'}", _FETCH_AGAIN)
    rows = weights.get(name, *shape)
    if not np.isfinite(rows).all():
        raise CheckpointError(f"the matrix {name} has numbers that are not finite", _FETCH_AGAIN)
    return rows


def _unknown_id(content: Mapping[str, Any], rows: int) -> int | None:
    """Of the token that stands for what the tokenizer does not know, if there is one. Raises CheckpointError."""
    model = content["model"]
    if model.get("type") != "Unigram":
        return dict(tokens(content)).get(model.get("unk_token"))
    found: int | None = model.get("unk_id")
    if found is not None and not 0 <= found < rows:
        raise CheckpointError(f"{TOKENIZER_JSON}: unk_id is {found}, there are {rows} rows", _FETCH_AGAIN)
    return found


def _heads(root: Path, inner: Path) -> tuple[Head, ...]:
    """modules.json has them. model2vec's config.json may say it as well; where they disagree, nothing is guessed."""
    normalize = read_json(inner / "config.json", optional=True).get("normalize")
    path = root / "modules.json"
    if not path.is_file():
        return (Normalize(),) if normalize else ()
    heads = read_heads(path, module_list(path)[1:])
    if normalize is not None and bool(normalize) != (Normalize() in heads):
        raise CheckpointError(
            f"{inner / 'config.json'} says normalize = {normalize}, modules.json the opposite",
            "correct the one that is wrong",
        )
    return heads


def _required(path: Path) -> Path:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist (pickled weights are never loaded)", _FETCH_AGAIN)
    return path
