"""A bundle as the real model's, some fifty times as fast: for loads of hundreds of thousands of requests.

Its graph is built by the real compiler, so the runtime allocates in the real model's pattern, a quarter as much a row.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from models.compile import compile_checkpoint
from models.sources import Say, fetch

_SHARE = 4  # of the width; heads keep their size, so that there are fewer of them
_LAYERS = 2
_MAX_SEQ_LENGTH = 512
_COPIED = ("modules.json", "tokenizer.json", "tokenizer_config.json")


def write_small_bundle(source: str, cache_dir: Path, folder: Path, say: Say) -> Path:
    """Of a BERT checkpoint, the first two layers and a quarter of their width. Its vectors mean nothing."""
    checkpoint = fetch(source, cache_dir, say)
    with tempfile.TemporaryDirectory(prefix="embedserve-small-") as place:
        small = Path(place)
        config = json.loads((checkpoint / "config.json").read_text("utf-8"))
        _write(small / "config.json", _narrowed(config))
        _write(small / "sentence_bert_config.json", {"max_seq_length": _MAX_SEQ_LENGTH, "do_lower_case": False})
        _write(small / "1_Pooling/config.json", {"pooling_mode": "mean", "embedding_dimension": _width(config)})
        for name in _COPIED:
            shutil.copy(checkpoint / name, small / name)
        weights = load_file(checkpoint / "model.safetensors")
        kept = {name: _cut(value, config) for name, value in weights.items() if _is_kept(name)}
        save_file(kept, small / "model.safetensors")
        return compile_checkpoint(str(small), cache_dir=cache_dir, output=folder, say=say)


def _width(config: dict[str, Any]) -> int:
    return int(config["hidden_size"]) // _SHARE


def _narrowed(config: dict[str, Any]) -> dict[str, Any]:
    narrower = {name: config[name] // _SHARE for name in ("hidden_size", "intermediate_size", "num_attention_heads")}
    return config | narrower | {"num_hidden_layers": _LAYERS}


def _is_kept(name: str) -> bool:
    _, _, layer = name.partition("encoder.layer.")
    return not layer or int(layer.partition(".")[0]) < _LAYERS


def _cut(weight: NDArray[Any], config: dict[str, Any]) -> NDArray[Any]:
    widths = {config["hidden_size"], config["intermediate_size"]}
    cut = weight[tuple(slice(size // _SHARE if size in widths else size) for size in weight.shape)]
    return np.ascontiguousarray(cut)


def _write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")
