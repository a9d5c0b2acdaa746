"""n-grams and their hashes, against what fastText gave (`model.get_subwords`): 2 to 4 characters, 2,000 buckets."""

from __future__ import annotations

import pytest

from service.subwords import ngram_buckets

RECORDED = {
    "тест": [196, 1403, 1933, 433, 1075, 476, 644, 1303, 267, 1552, 218, 1180],
    "é夜x": [627, 1882, 982, 1356, 748, 342, 1320, 82, 91],
    "a": [750, 1600, 806],
}


@pytest.mark.parametrize("word", RECORDED)
def test_buckets_are_those_of_fasttext(word: str) -> None:
    assert ngram_buckets(word, 2, 4, 2000) == RECORDED[word]


def test_single_characters_count_but_for_those_at_the_ends() -> None:
    assert len(ngram_buckets("ab", 1, 1, 100)) == 2


def test_a_model_without_ngrams_gives_none() -> None:
    assert ngram_buckets("word", 0, 0, 2000) == []
    assert ngram_buckets("word", 3, 6, 0) == []


def test_a_word_shorter_than_any_ngram_has_none() -> None:
    assert ngram_buckets("a", 5, 5, 2000) == []
