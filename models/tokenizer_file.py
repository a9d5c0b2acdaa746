"""The checkpoint's tokenizer.json → the bundle's: the same tokens, without truncation and padding of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.checkpoint import Checkpoint
from models.descriptions import read_json, read_tokenizer
from models.named_tokens import with_named_tokens
from models.tokenizer_class import as_its_class_has_it
from service.bundle import TOKENIZER_JSON
from service.errors import BundleError, CheckpointError
from service.tokenizer import Tokenizer


def write_tokenizer(checkpoint: Checkpoint, folder: Path) -> None:
    """Raises CheckpointError where it is missing, malformed or does not fit the embedding matrix."""
    source = checkpoint.folder / TOKENIZER_JSON
    if not source.is_file():
        raise CheckpointError(
            f"{source} does not exist, and older tokenizer files (vocab.txt, spiece.model) are not read",
            "make one with transformers: AutoTokenizer.from_pretrained(FOLDER, use_fast=True).save_pretrained(FOLDER)",
        )
    content = as_its_class_has_it(read_tokenizer(source), checkpoint.folder, checkpoint.config)
    content = with_named_tokens(content, dict(tokens(content)), checkpoint.folder, checkpoint.vocab_size)
    content["truncation"] = content["padding"] = None
    if checkpoint.lower_case:
        content["normalizer"] = _lowercasing(content.get("normalizer"))
    if checkpoint.single_tokens:
        content["added_tokens"] = _with_single_tokens(content, checkpoint.single_tokens)
    (folder / TOKENIZER_JSON).write_text(json.dumps(content, ensure_ascii=False), "utf-8")
    check_ids(content, source, checkpoint.vocab_size)
    try:
        tokenizer = Tokenizer(folder / TOKENIZER_JSON)
    except BundleError as error:
        raise CheckpointError(f"{source} cannot be used: {error.message}", "fetch the checkpoint again") from error
    if checkpoint.max_seq_length <= tokenizer.special_tokens:
        raise CheckpointError(
            f"{checkpoint.folder}: max_seq_length is {checkpoint.max_seq_length}, and special tokens alone are "
            f"{tokenizer.special_tokens}",
            "mend max_seq_length in sentence_bert_config.json, or model_max_length in tokenizer_config.json",
        )
    _check_padding(checkpoint, dict(tokens(content)))
    _check_around(checkpoint, tokenizer)


def _with_single_tokens(content: Mapping[str, Any], texts: Sequence[str]) -> list[dict[str, Any]]:
    """The added tokens, with these found in any text as they are written, which is before it is normalised."""
    ids = dict(tokens(content))
    plain = {"single_word": False, "lstrip": False, "rstrip": False}
    added = {one["content"]: plain | one for one in content.get("added_tokens") or ()}
    for text in texts:
        added[text] = (
            plain | added.get(text, {}) | {"id": ids[text], "content": text, "normalized": False, "special": True}
        )
    return sorted(added.values(), key=lambda one: int(one["id"]))


def _lowercasing(normalizer: dict[str, Any] | None) -> dict[str, Any]:
    """`do_lower_case` as sentence-transformers applies it: a Lowercase in front, unless there is one."""
    if _lowercases(normalizer):
        assert normalizer is not None
        return normalizer
    rest = normalizer["normalizers"] if normalizer and normalizer.get("type") == "Sequence" else [normalizer]
    return {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *(one for one in rest if one)]}


def _lowercases(normalizer: Mapping[str, Any] | None) -> bool:
    match normalizer:
        case {"type": "Lowercase"} | {"type": "BertNormalizer", "lowercase": True}:
            return True
        case {"type": "Sequence", "normalizers": [*inner]}:
            return any(_lowercases(one) for one in inner)
    return False


def check_ids(content: Mapping[str, Any], source: Path, rows: int) -> None:
    """An id beyond the embedding matrix would fail only when a text happens to hold its token."""
    for token, number in tokens(content):
        if number >= rows:
            raise CheckpointError(
                f"{source}: token {token!r} has id {number}, the embedding matrix has {rows} rows",
                "the tokenizer and the weights do not belong together: fetch both again",
            )


def _check_padding(checkpoint: Checkpoint, ids: Mapping[str, int]) -> None:
    """Some families count their positions from the padding's id: the tokenizer must mean the same one."""
    named, configured = _token(checkpoint.folder, "pad_token"), checkpoint.config.get("pad_token_id")
    own = ids.get(named) if named is not None else None
    if own is not None and configured is not None and own != configured:
        raise _at_odds(f"pad_token_id is {configured}, the tokenizer's {named} is {own}")


def _check_around(checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """What config.json calls the beginning and the end of a text is what the tokenizer puts there."""
    around = {*tokenizer.prefix, *tokenizer.suffix}
    for key in ("cls_token_id", "sep_token_id"):
        configured = checkpoint.config.get(key)
        if configured is not None and configured not in around:
            put = ", ".join(map(str, sorted(around))) or "nothing"
            raise _at_odds(f"{key} is {configured}, the tokenizer puts {put} around a text")


def _token(folder: Path, role: str) -> str | None:
    """The token that the tokenizer's own files give that role."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        found = read_json(folder / name, optional=True).get(role)
        found = found.get("content") if isinstance(found, dict) else found
        if isinstance(found, str):
            return found
    return None


def _at_odds(reason: str) -> CheckpointError:
    return CheckpointError(
        f"config.json: {reason}",
        "the tokenizer and the weights do not belong together: fetch both again, or mend config.json",
    )


def tokens(content: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """(token, id) of the vocabulary and of the tokens added to it. Unigram vocabularies are lists, by id."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:
        yield from ((str(one[0]), number) for number, one in enumerate(vocabulary))
    yield from ((one["content"], one["id"]) for one in content.get("added_tokens") or ())
