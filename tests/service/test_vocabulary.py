"""Texts → ids of known words: what is cut where, and what stands for what."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle import WordRules
from service.errors import BundleError, TooManyTokens
from service.tokenizer import Tokenizer
from service.vocabulary import Vocabulary

WORDS = ["the", "mill", "new_york", "don't", "state-of-the-art", ",", ".", "don", "of", "i̇x"]
PLAIN = WordRules(lower_case=True, punctuation=True)
SUBWORDS = WordRules(lower_case=False, punctuation=False, shortest=2, longest=3, buckets=10)


def words_of(text: str, rules: WordRules = PLAIN) -> list[str]:
    (found,) = Vocabulary(WORDS, rules).encode_batch_fast([text], add_special_tokens=False)
    return [WORDS[one] for one in found.ids]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The MILL", ["the", "mill"]),
        ("the mill, the  mill.", ["the", "mill", ",", "the", "mill", "."]),
        ("New_York don't", ["new_york", "don't"]),
        ("(New_York).", ["new_york", "."]),
        ("don't. don's state-of-the-art, state-of-the", ["don't", ".", "don", "state-of-the-art", ",", "of", "the"]),
        ("unknown", []),
        ("", []),
        ("the\u00a0mill\u3000the\nmill", ["the", "mill", "the", "mill"]),
        ("the_mill", ["the", "mill"]),
        ("themill", []),
    ],
)
def test_words_are_found_whole_or_beside_signs(text: str, expected: list[str]) -> None:
    assert words_of(text) == expected


def test_capital_letters_count_where_the_vocabulary_has_them() -> None:
    assert words_of("The the", WordRules(lower_case=False, punctuation=True)) == ["the"]


def test_the_first_of_equal_words_counts() -> None:
    (found,) = Vocabulary(["a", "b", "a"], PLAIN).encode_batch_fast(["a b"], add_special_tokens=False)
    assert found.ids == [0, 1]


def test_offsets_are_of_the_text_as_it_is_written() -> None:
    text = "The İX, Mill!"  # the second word has more letters in lower case
    (found,) = Vocabulary(WORDS, PLAIN).encode_batch([text], add_special_tokens=False)
    assert [text[begin:end] for begin, end in found.offsets] == ["The", "İX", ",", "Mill"]


@given(st.text(alphabet="the mill,.NEWdon'_- \n\u3000éΣİ", max_size=60))
def test_with_offsets_and_without_the_ids_are_the_same(text: str) -> None:
    for rules in (PLAIN, SUBWORDS):
        own = Vocabulary(WORDS, rules)
        (fast,) = own.encode_batch_fast([text], add_special_tokens=False)
        (exact,) = own.encode_batch([text], add_special_tokens=False)
        assert fast.ids == exact.ids
        assert len(exact.offsets) == len(exact.ids)
        assert all(0 <= begin <= end <= len(text) for begin, end in exact.offsets)
        assert all(one < own.get_vocab_size(with_added_tokens=True) for one in fast.ids)


def test_an_unseen_word_is_its_ngrams_and_the_first_of_them_says_that_it_begins() -> None:
    (found,) = Vocabulary(WORDS, SUBWORDS).encode_batch(["the zz\u00a0 The"], add_special_tokens=False)
    first, rest = len(WORDS), len(WORDS) + 10
    starts = [i for i, one in enumerate(found.ids) if one < rest]
    assert found.ids[0] == 0
    assert [found.offsets[i] for i in starts] == [(0, 3), (4, 7), (8, 11)]
    assert all(first <= found.ids[i] < rest for i in starts[1:])


def test_it_is_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("the\nmill\n", "utf-8")
    tokenizer = Tokenizer(path, PLAIN)
    assert (tokenizer.prefix, tokenizer.suffix, tokenizer.vocab_size) == ((), (), 2)
    long, short = tokenizer.encode(["the mill " * 10, "the"], ["", ""], 4)
    assert list(long.ids) == [0, 1] * 10
    assert (long.starts[1], long.ends[1]) == (4, 8)
    assert list(short.ids) == [0]
    assert [piece.text for piece in tokenizer.pieces(["The mill"], False, 10)[0]] == ["The", "mill"]
    assert tokenizer.decode([[1, 0], [0]], True) == ["mill the", "the"]
    with pytest.raises(TooManyTokens):
        tokenizer.encode(["the mill the mill"], [""], 100, max_tokens=3)
    with pytest.raises(BundleError, match="cannot be read"):
        Tokenizer(tmp_path / "missing.txt", PLAIN)


def test_endless_words_are_not_remembered() -> None:
    """50,000 of them would be; and the n-grams of one take megabytes."""
    vocabulary = Vocabulary(WORDS, SUBWORDS)
    for i in range(20):
        vocabulary.encode_batch_fast([f"{i}" + "ab" * 1_000, f"short{i}"], add_special_tokens=False)
    assert vocabulary._kept.cache_info().currsize == 20
