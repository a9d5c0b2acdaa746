"""The bundle's tokenizer.json: the same tokens, whole and unpadded, within the embedding matrix."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from models.checkpoint import read_checkpoint
from models.tokenizer_class import as_its_class_has_it
from models.tokenizer_file import write_tokenizer
from service.errors import CheckpointError
from service.tokenizer import Tokenizer
from tests.models import tiny
from tests.models.tiny import Tiny, change_json, write_json

AROUND = tiny.tokenizer()["post_processor"]
AS_IT_IS = "PreTrainedTokenizerFast"  # a class that changes nothing of tokenizer.json


def written(source: Path, folder: Path) -> dict[str, Any]:
    folder.mkdir()
    write_tokenizer(read_checkpoint(source), folder)
    content: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    return content


def test_truncation_and_padding_are_removed(tmp_path: Path) -> None:
    source = Tiny().write(tmp_path / "tiny")
    write_json(source / "tokenizer_config.json", {"tokenizer_class": AS_IT_IS})
    content = written(source, tmp_path / "out")
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
    write_json(source / "tokenizer_config.json", {"tokenizer_class": AS_IT_IS})
    content = written(source, tmp_path / "out")
    assert content["normalizer"] == ({"type": "Sequence", "normalizers": after} if after else before)


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ({}, (True, None, True)),
        ({"tokenizer_class": "BertTokenizer"}, (True, None, True)),
        ({"tokenizer_class": "MPNetTokenizerFast", "do_lower_case": False}, (False, None, True)),
        ({"tokenizer_class": "DistilBertTokenizer", "strip_accents": False}, (True, False, True)),
        ({"tokenizer_class": "ElectraTokenizer", "tokenize_chinese_chars": False}, (True, None, False)),
        ({"tokenizer_class": AS_IT_IS, "do_lower_case": True}, (False, True, True)),
    ],
)
def test_settings_beside_the_file_make_the_normaliser(
    tmp_path: Path, settings: dict[str, Any], made: tuple[bool, bool | None, bool]
) -> None:
    """As transformers' BertTokenizer and its relatives do, which do not look at the file's."""
    source = Tiny().write(tmp_path / "tiny")
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True}
    change_json(source / "tokenizer.json", normalizer=normalizer | {"strip_accents": True, "lowercase": False})
    write_json(source / "tokenizer_config.json", settings)
    found = written(source, tmp_path / "out")["normalizer"]
    assert (found["lowercase"], found["strip_accents"], found["handle_chinese_chars"]) == made


@pytest.mark.parametrize("prefixed", [True, False])
def test_settings_beside_the_file_make_robertas_words(prefixed: bool) -> None:
    words = {"type": "ByteLevel", "add_prefix_space": not prefixed, "trim_offsets": True, "use_regex": True}
    content = {"normalizer": None, "pre_tokenizer": words, "post_processor": AROUND, "model": {"type": "BPE"}}
    found = as_class({"tokenizer_class": "RobertaTokenizer", "add_prefix_space": prefixed}, content)
    assert found["pre_tokenizer"] == words | {"add_prefix_space": prefixed}


def as_class(settings: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        write_json(Path(folder) / "tokenizer_config.json", settings)
        return as_its_class_has_it(content, Path(folder), {"model_type": "roberta"})


def test_prefixes_that_contradict_each_other_are_refused() -> None:
    content = {
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "post_processor": AROUND,
        "model": {"type": "Unigram"},
    }
    named = {"tokenizer_class": "XLMRobertaTokenizer"}
    assert as_class(named, content) == content
    with pytest.raises(CheckpointError, match=r"prepend_scheme always, .* add_prefix_space False"):
        as_class(named | {"add_prefix_space": False}, content)


@pytest.mark.parametrize(
    ("name", "model", "words"),
    [("XLMRobertaTokenizer", "Unigram", "Metaspace"), ("RobertaTokenizerFast", "BPE", "ByteLevel")],
)
@pytest.mark.parametrize("part", ["pre_tokenizer", "post_processor"])
def test_parts_that_only_transformers_5_makes_are_refused(name: str, model: str, words: str, part: str) -> None:
    content = {"model": {"type": model}, "pre_tokenizer": {"type": words}, "post_processor": AROUND, part: None}
    with pytest.raises(CheckpointError, match=f"its {part} is None, transformers' {name.removesuffix('Fast')} makes"):
        as_class({"tokenizer_class": name}, content)


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
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ('{"model": {"vocab": {"\\ud83d": 1}}}', "is not JSON: .* surrogates not allowed"),
        ("{}", r"tokenizer\.json: model: Field required"),
        ('{"model": ["a"]}', r"tokenizer\.json: model: "),
        ('{"model": {"vocab": [[]]}}', r"tokenizer\.json: model\.vocab"),
        ('{"model": {"vocab": {}}, "normalizer": "NFC"}', r"tokenizer\.json: normalizer: "),
        ('{"model": {"vocab": {}}, "added_tokens": [{"id": 1e999, "content": "a"}]}', r"added_tokens\.0\.id"),
        ('{"model": {"vocab": {"a": 1}}}', "cannot be used"),
    ],
)
def test_a_broken_tokenizer_is_refused(tmp_path: Path, content: str, message: str) -> None:
    source = Tiny().write(tmp_path / "tiny")
    (source / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(CheckpointError, match=message):
        written(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("special_tokens_map.json", {"additional_special_tokens": ["river"]}),
        ("special_tokens_map.json", {"eos_token": {"content": "river", "normalized": False}}),
        ("tokenizer_config.json", {"additional_special_tokens": ["river"]}),
        ("tokenizer_config.json", {"extra_special_tokens": {"place_token": "river"}}),
        ("tokenizer_config.json", {"added_tokens_decoder": {"57": {"content": "river", "special": True}}}),
        ("added_tokens.json", {"river": 57}),
    ],
)
def test_tokens_that_the_settings_name_are_found_whole_in_any_text(
    tmp_path: Path, file: str, settings: dict[str, Any]
) -> None:
    """As transformers 4.57 and 5.23 have it; [2, 57, 43, 39, 42, 42, 3] without."""
    source = Tiny().write(tmp_path / "source")
    write_json(source / file, settings)
    written(source, tmp_path / "bundle")
    (row,) = Tokenizer(tmp_path / "bundle" / "tokenizer.json").encode(["rivermill"], [""], 24)
    assert list(row.ids) == [tiny.VOCABULARY["river"], tiny.VOCABULARY["mill"]]


def test_named_tokens_without_an_id_get_the_next_one_if_there_is_a_row_for_it(tmp_path: Path) -> None:
    rows = len(tiny.VOCABULARY) + 1
    source = Tiny(config={"vocab_size": rows}).write(tmp_path / "source")
    write_json(source / "tokenizer_config.json", {"tokenizer_class": AS_IT_IS, "bos_token": "<1>", "eos_token": "<2>"})
    *_, last = written(source, tmp_path / "bundle")["added_tokens"]
    assert (last["content"], last["id"], last["special"]) == ("<1>", rows - 1, True)


def test_a_tokenizer_that_puts_nothing_around_a_text_is_refused_where_its_class_does(tmp_path: Path) -> None:
    """transformers 4 puts nothing there either, 5 does."""
    source = Tiny().write(tmp_path / "source")
    content = tiny.tokenizer() | {"post_processor": None}
    write_json(source / "tokenizer.json", content)
    with pytest.raises(CheckpointError, match="its post_processor is None, transformers' BertTokenizer makes"):
        written(source, tmp_path / "bundle")
    write_json(source / "tokenizer_config.json", {"tokenizer_class": AS_IT_IS})
    written(source, tmp_path / "as-it-is")


def test_a_template_of_tokens_that_are_not_there_is_refused(tmp_path: Path) -> None:
    source = Tiny().write(tmp_path / "source")
    template = tiny.tokenizer()["post_processor"]
    del template["special_tokens"]["[SEP]"]
    change_json(source / "tokenizer.json", post_processor=template)
    with pytest.raises(CheckpointError) as raised:
        written(source, tmp_path / "bundle")
    assert "cannot be used" in raised.value.message


@pytest.mark.parametrize("length", [1, 2])
def test_no_room_for_a_text_is_refused(tmp_path: Path, length: int) -> None:
    source = Tiny(sentence_bert={"max_seq_length": length}).write(tmp_path / "source")
    with pytest.raises(CheckpointError, match=f"max_seq_length is {length}, and special tokens alone are 2"):
        written(source, tmp_path / "bundle")
