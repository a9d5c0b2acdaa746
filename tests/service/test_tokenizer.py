"""Token ids, offsets and special tokens, on tokenizers made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import normalizers

from service.errors import BundleError, InvalidInput, TooManyTokens
from service.tokenizer import Tokenizer, size_of, slices
from service.types import Encoding
from tests.service.conftest import WORDS


def plain(encoding: Encoding) -> tuple[list[int], int, list[tuple[int, int]]]:
    """Ids, the prompt's length, and offsets."""
    offsets = list(zip(encoding.starts, encoding.ends, strict=True))
    return list(encoding.ids), encoding.prompt_length, offsets


def test_special_tokens_are_found_by_looking(tokenizer: Tokenizer) -> None:
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.special_tokens) == ((2,), (3,), 2)


def test_the_files_own_truncation_and_padding_are_switched_off(tokenizer: Tokenizer) -> None:
    (encoding,) = tokenizer.encode(["hello world " * 10], [""], 4)
    assert list(encoding.ids) == [4, 5] * 10


def test_what_fits_goes_without_offsets_and_what_does_not_has_them(tokenizer: Tokenizer) -> None:
    """However many characters it has."""
    short, fits = tokenizer.encode(["hello", "hello  World hello"], ["", ""], 5)
    assert (plain(short), plain(fits)) == (([4], 0, []), ([4, 5, 4], 0, []))
    (long,) = tokenizer.encode(["hello  World hello"], [""], 2)
    assert plain(long) == ([4, 5, 4], 0, [(0, 5), (7, 12), (13, 18)])


def test_prompts_are_tokenised_with_their_text_and_offsets_count_from_the_text(tokenizer: Tokenizer) -> None:
    first, second = tokenizer.encode(["hello world", "hello world"], ["query: ", ""], 2)
    assert plain(first) == ([6, 7, 4, 5], 2, [(0, 0), (0, 0), (0, 5), (6, 11)])
    assert plain(second) == ([4, 5], 0, [(0, 5), (6, 11)])


def test_a_character_that_becomes_many_tokens_does_not_slip_past_the_window(
    tokenizer_json: Path, tmp_path: Path
) -> None:
    made = tokenizers.Tokenizer.from_file(str(tokenizer_json))
    made.normalizer = normalizers.Replace("x", "hello world hello ")
    made.save(str(tmp_path / "tokenizer.json"))
    (encoding,) = Tokenizer(tmp_path / "tokenizer.json").encode(["xx"], [""], 4)
    assert list(encoding.ids) == [4, 5, 4] * 2
    assert plain(encoding)[2] == [(0, 1)] * 3 + [(1, 2)] * 3


def test_too_many_tokens_are_counted_over_all_inputs_with_their_special_tokens(tokenizer: Tokenizer) -> None:
    texts = ["hello world", "hello " * 10]
    assert len(tokenizer.encode(texts, ["", ""], 4, max_tokens=16)) == 2
    with pytest.raises(TooManyTokens) as refused:
        tokenizer.encode(texts, ["", ""], 4, max_tokens=15)
    assert (refused.value.limit, refused.value.actual) == (15, 16)


def test_long_texts_are_tokenised_in_slices_as_if_in_one_piece(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "hello  world ab\n\nhello " * 40
    whole = tokenizer.encode([text], ["query: "], 2)
    monkeypatch.setattr("service.tokenizer._SLICE", 50)
    assert len(list(slices("query: " + text))) > 10
    assert tokenizer.encode([text], ["query: "], 2) == whole


def test_a_long_text_is_given_up_between_slices(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tokenizer._SLICE", 60)
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise InterruptedError

    for limit in (10_000, 15):  # while tokenising, and while counting what is too much
        calls.clear()
        with pytest.raises(InterruptedError):
            tokenizer.encode(["hello " * 1000], [""], 4, limit, check)


def test_too_many_tokens_are_counted_to_the_end(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tokenizer._SLICE", 60)
    with pytest.raises(TooManyTokens) as refused:
        tokenizer.encode(["hello " * 1000], [""], 4, max_tokens=300)
    assert refused.value.actual == 1002


def test_far_too_many_tokens_are_not(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.tokenizer._SLICE", 60)
    slices_read: list[int] = []
    with pytest.raises(TooManyTokens, match="Requested more than 60 tokens, max 15") as refused:
        tokenizer.encode(["hello " * 1000], [""], 4, max_tokens=15, check=lambda: slices_read.append(1))
    assert refused.value.actual == 60
    assert len(slices_read) < 20


@example("aaaaaaaaaa  aaaaaaaaa")
@given(st.text("ab \n", max_size=400))
def test_slices_cover_a_text_in_order_and_begin_with_white_space_where_there_is_any(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.tokenizer._SLICE", 20)
        found = list(slices(text))
    assert "".join(text[start:stop] for start, stop in found) == text
    assert all(stop - start <= 20 for start, stop in found)
    for start, _ in found[1:]:
        # Where spaces stand side by side, only the first of them is a place to cut.
        places = [i for i in range(start - 9, start + 1) if text[i].isspace() and not text[i - 1].isspace()]
        assert text[start].isspace() or not places


@given(st.text("ab \ufdfa", max_size=400))
def test_slices_are_shorter_where_a_character_becomes_eighteen(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.tokenizer._SLICE", 40)
        found = [text[start:stop] for start, stop in slices(text)]
    assert "".join(found) == text
    assert all(size_of(one) <= 80 for one in found)


def test_long_lists_are_tokenised_in_parts_and_can_be_given_up_between_them(tokenizer: Tokenizer) -> None:
    texts = [f"hello world {'hello ' * (i % 7)}" for i in range(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.tokenizer._SLICE", 100)
        looks: list[None] = []
        found = tokenizer.encode(texts, [""] * 40, 20, check=lambda: looks.append(None))
        assert found == [tokenizer.encode([text], [""], 20)[0] for text in texts]
        assert len(looks) >= sum(map(len, texts)) / 100
        with pytest.raises(TooManyTokens):
            tokenizer.encode(texts, [""] * 40, 20, max_tokens=50)


def test_what_does_not_fit_counts_at_once(tokenizer: Tokenizer) -> None:
    texts = ["x " * 9] * 40
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.tokenizer._SLICE", 40)
        patch.setattr(tokenizer, "_encode_with_offsets", None)
        patch.setattr(tokenizer, "_too_many", lambda texts, most, check: TooManyTokens(most, 0))
        read: list[None] = []
        with pytest.raises(TooManyTokens):
            tokenizer.encode(texts, [""] * 40, 5, max_tokens=100, check=lambda: read.append(None))
        assert len(read) == 2  # 80 special tokens, 9 a text, two texts at a time
    found = tokenizer.encode(texts, [""] * 40, 5, max_tokens=440)
    assert all(len(one.starts) == len(one.ids) == 9 for one in found)


def test_no_texts_give_no_encodings(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode([], [], 8) == []


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=5), st.integers(1, 20))
def test_ids_do_not_depend_on_the_company_or_on_the_way(tokenizer: Tokenizer, texts: list[str], window: int) -> None:
    together = tokenizer.encode(texts, [""] * len(texts), window)
    for text, encoding in zip(texts, together, strict=True):
        assert list(encoding.ids) == list(tokenizer.encode([text], [""], 0)[0].ids)


@pytest.mark.parametrize(("prompt", "place"), [("query: ", 3), ("hello", 2), ("", 1)])
def test_a_prompt_ends_where_sentence_transformers_says(tokenizer: Tokenizer, prompt: str, place: int) -> None:
    """Behind [CLS] and the prompt's own tokens: the last one of its row is special."""
    assert tokenizer.place_behind(prompt) == place


def test_a_prompt_that_ends_with_a_special_token_loses_it_where_nothing_is_put_behind_it(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"hello": 0, "[SEP]": 1}, unk_token="[SEP]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[SEP]"])
    made.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer(tmp_path / "tokenizer.json")
    assert [found.place_behind(prompt) for prompt in ("hello hello", "hello [SEP]", "")] == [2, 1, 0]


def test_adopted_ids_lose_their_special_tokens_and_gain_the_prompt(tokenizer: Tokenizer) -> None:
    (prompt,) = tokenizer.encode([""], ["query:"], 8)
    assert tokenizer.adopt([2, 4, 5, 3], prompt) == Encoding([6, 7, 4, 5], 2)
    assert tokenizer.adopt([4, 5], Encoding([])) == Encoding([4, 5], 0)


@pytest.mark.parametrize("token", [-1, len(WORDS), 10**12])
def test_ids_out_of_the_vocabulary_are_refused(tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(InvalidInput, match=str(token)):
        tokenizer.adopt([4, token], Encoding([]))


def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "tokenizer.json"
    target.write_text("{}")
    with pytest.raises(BundleError, match="is not a tokenizer"):
        Tokenizer(target)


def test_a_tokenizer_that_fails_on_any_text_is_the_bundles_fault(tmp_path: Path) -> None:
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece({"b": 0}, unk_token="[UNK]"))
    made.post_processor = tokenizers.processors.TemplateProcessing("$A", special_tokens=[])
    made.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BundleError, match=r"fails on the text 'a': .*\[UNK\]"):
        Tokenizer(tmp_path / "tokenizer.json")
