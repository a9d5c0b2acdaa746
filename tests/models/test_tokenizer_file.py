"""The bundle's tokenizer.json: the same tokens, whole and unpadded, within the embedding matrix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.checkpoint import read_checkpoint
from models.tokenizer_file import write_tokenizer
from service.errors import CheckpointError
from tests.models import tiny
from tests.models.tiny import Tiny, change_json, write_json


def written(source: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    write_tokenizer(read_checkpoint(source), folder)
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return content


def test_truncation_and_padding_are_removed(tmp_path: Path) -> None:
    content = written(Tiny().write(tmp_path / "tiny"), tmp_path / "out")
    assert content == tiny.tokenizer() | {"truncation": None, "padding": None}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, [{"type": "Lowercase"}]),
        ({"type": "NFC"}, [{"type": "Lowercase"}, {"type": "NFC"}]),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, [{"type": "Lowercase"}, {"type": "NFC"}]),
        ({"type": "Lowercase"}, None),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}, None),
    ],
)
def test_do_lower_case(tmp_path: Path, before: dict[str, Any] | None, after: list[dict[str, Any]] | None) -> None:
    source = Tiny(sentence_bert={"do_lower_case": True}).write(tmp_path / "tiny")
    write_json(source / "tokenizer.json", tiny.tokenizer() | {"normalizer": before})
    content = written(source, tmp_path / "out")
    assert content["normalizer"] == ({"type": "Sequence", "normalizers": after} if after else before)


def test_a_token_beyond_the_embedding_matrix_is_refused(tmp_path: Path) -> None:
    source = Tiny(config={"vocab_size": len(tiny.VOCABULARY) - 1}).write(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match=r"token 'mill' has id 58, the embedding matrix has 58 rows"):
        written(source, tmp_path / "out")


def test_an_added_token_beyond_the_embedding_matrix_is_refused(tmp_path: Path) -> None:
    source = Tiny().write(tmp_path / "tiny")
    special = tiny.tokenizer()["added_tokens"]
    change_json(source / "tokenizer.json", added_tokens=[*special, special[-1] | {"id": 99, "content": "[NEW]"}])
    with pytest.raises(CheckpointError, match=r"token '\[NEW\]' has id 99"):
        written(source, tmp_path / "out")


def test_a_missing_tokenizer_is_explained(tmp_path: Path) -> None:
    source = Tiny().write(tmp_path / "tiny")
    (source / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="make one with transformers"):
        written(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not JSON"), ("{}", "is malformed"), ('{"model": {"vocab": {"a": 1}}}', "cannot be used")],
)
def test_a_broken_tokenizer_is_refused(tmp_path: Path, content: str, message: str) -> None:
    source = Tiny().write(tmp_path / "tiny")
    (source / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=message):
        written(source, tmp_path / "out")
