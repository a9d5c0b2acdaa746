"""Tokens that a checkpoint's settings name and that its tokenizer.json cuts like any other text: transformers 4 and 5
both add them to those that are found whole wherever they stand in a text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from models.descriptions import read_json

_ROLES = tuple(f"{role}_token" for role in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))
_LISTS = ("additional_special_tokens", "extra_special_tokens")
_FLAGS = ("lstrip", "rstrip", "single_word")


def with_named_tokens(content: Mapping[str, Any], ids: Mapping[str, int], folder: Path, rows: int) -> dict[str, Any]:
    """tokenizer.json, whose tokens have `ids`, with those that the other files of the folder name.

    One that is not in the vocabulary gets the next id. It is left out where the embedding matrix of `rows` has no row
    for that: with transformers a text that holds it has no vector. Raises CheckpointError.
    """
    added = {one["content"]: one for one in content.get("added_tokens") or ()}
    following = max(ids.values(), default=-1) + 1
    for token in _named(folder):
        number = ids.get(token["content"], following)
        if token["content"] not in added and number < rows:
            added[token["content"]] = {"id": number} | token
            following = max(following, number + 1)
    return {**content, "added_tokens": sorted(added.values(), key=lambda one: int(one["id"]))}


def _named(folder: Path) -> Iterator[dict[str, Any]]:
    """In the order in which they are added."""
    config = read_json(folder / "tokenizer_config.json", optional=True)
    yield from _plain(folder, config)
    settings = read_json(folder / "special_tokens_map.json", optional=True) | config
    for role in _ROLES:
        yield from _token(settings.get(role), special=True)
    for name in _LISTS:
        found = settings.get(name)
        for one in found.values() if isinstance(found, dict) else found if isinstance(found, list) else ():
            yield from _token(one, special=True)


def _plain(folder: Path, config: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Those with ids; added_tokens.json is the older place for them."""
    found = config.get("added_tokens_decoder")
    if isinstance(found, dict):
        for _, one in sorted(found.items(), key=lambda item: (len(item[0]), item[0])):  # ids, written as texts
            yield from _token(one, special=isinstance(one, dict) and one.get("special") is True)
        return
    older = read_json(folder / "added_tokens.json", optional=True)
    for text in sorted(older, key=lambda text: str(older[text]).zfill(20)):
        yield from _token(text, special=False)


def _token(found: Any, *, special: bool) -> Iterator[dict[str, Any]]:
    """A text, or a table of what transformers calls an AddedToken; nothing for what is neither."""
    table = {"content": found} if isinstance(found, str) else found
    if isinstance(table, dict) and isinstance(table.get("content"), str) and table["content"]:
        flags = {flag: table.get(flag) is True for flag in _FLAGS}
        normalized = table.get("normalized", not special) is True
        yield {"content": table["content"], "special": special, "normalized": normalized, **flags}
