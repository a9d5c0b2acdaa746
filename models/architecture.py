"""Sizes of an encoder, by whatever names its config.json has for them: all routes ask here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.descriptions import refused

_NAMES: Mapping[str, tuple[str, ...]] = {
    "hidden_size": ("hidden_size", "dim", "n_embd", "d_model"),
    "vocab_size": ("vocab_size",),
    "positions": ("max_position_embeddings", "n_positions"),
}
_COUNTED_FROM_PADDING = {"roberta", "xlm-roberta", "camembert", "mpnet"}
_UNBOUNDED = {"t5", "mt5", "umt5"}  # positions are relative, and config.json has no number of them


@dataclass(frozen=True, slots=True)
class Architecture:
    """What the rest of the compiler needs to know of an encoder."""

    hidden_size: int  # width of the token vectors
    vocab_size: int  # rows of the embedding matrix
    positions: int | None  # tokens of the longest row, special tokens included; None: of any length


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """Of config.json. Raises CheckpointError where a size is missing or malformed."""
    hidden_size, vocab_size = (_size(config, *_NAMES[name]) for name in ("hidden_size", "vocab_size"))
    return Architecture(hidden_size, vocab_size, _positions(config))


def _positions(config: Mapping[str, Any]) -> int | None:
    model_type = config.get("model_type")
    if model_type in _UNBOUNDED:
        return None
    behind = _padding(config) + 1 if model_type in _COUNTED_FROM_PADDING else 0
    return _size(config, *_NAMES["positions"]) - behind


def _size(config: Mapping[str, Any], *names: str) -> int:
    """The first of them that config.json has."""
    name = next((name for name in names if name in config), names[0])
    found = config.get(name)
    if not isinstance(found, int) or isinstance(found, bool) or found <= 0:
        raise refused("config.json", f"{name} is {found!r}, not a positive number")
    return found


def _padding(config: Mapping[str, Any]) -> int:
    """RoBERTa's positions begin behind the padding's id, which its relatives do not always name."""
    found = config.get("pad_token_id")
    return found if isinstance(found, int) and config.get("model_type") != "mpnet" else 1
