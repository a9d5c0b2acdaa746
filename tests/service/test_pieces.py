"""Tokens for people to look at, and back again."""

from __future__ import annotations

import pytest

from service.errors import InvalidInput, TooManyTokens
from service.tokenizer import Piece, Tokenizer


def test_special_tokens_have_no_place_in_the_text(tokenizer: Tokenizer) -> None:
    (plain,) = tokenizer.pieces(["hello  world"], False, 8)
    assert plain == [Piece(4, "hello", False, 0, 5), Piece(5, "world", False, 7, 12)]
    (special,) = tokenizer.pieces(["hello  world"], True, 8)
    assert special[1:-1] == plain
    assert [(one.id, one.special, one.start, one.stop) for one in (special[0], special[-1])] == [
        (2, True, None, None),
        (3, True, None, None),
    ]


def test_places_are_counted_in_bytes(tokenizer: Tokenizer) -> None:
    text = "日本 hello"
    (found,) = tokenizer.pieces([text], False, 8)
    assert [text.encode()[one.start : one.stop].decode() for one in found] == [one.text for one in found]
    assert (found[-1].text, found[-1].stop) == ("hello", 12)


def test_all_texts_together_have_a_limit(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.pieces(["hello", "world"], True, 6)) == 2
    with pytest.raises(TooManyTokens):
        tokenizer.pieces(["hello", "world"], True, 5)
    assert tokenizer.pieces([""], True, 2)[0][0].special
    assert tokenizer.pieces([], True, 0) == []


def test_ids_become_text_again(tokenizer: Tokenizer) -> None:
    (text,) = tokenizer.decode([[4, 5]], True)
    assert text.split() == ["hello", "world"]
    whole, empty = tokenizer.decode([[2, 4, 5, 3], []], False)
    assert (len(whole.split()), empty) == (4, "")
    for wrong in (-1, tokenizer.vocab_size, 2**32):
        with pytest.raises(InvalidInput):
            tokenizer.decode([[4], [4, wrong]], True)
