"""The vocabulary is OpenAI's own, and decoding agrees with tiktoken."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from service.cl100k import RANKS, SPECIAL_TOKENS, decode, read_tokens
from service.errors import InvalidInput

TEXTS = json.loads((Path(__file__).parents[1] / "parity" / "texts.json").read_text("utf-8"))

# Of OpenAI's cl100k_base.tiktoken, as tiktoken itself expects it.
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


@pytest.fixture(scope="module")
def encoder() -> tiktoken.Encoding:
    """tiktoken's encoder over the packed table: tiktoken's own constructor of it would go to the network."""
    ranks = {token: rank for rank, token in enumerate(read_tokens())}
    return tiktoken.Encoding("cl100k_base", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=SPECIAL_TOKENS)


def test_the_table_is_the_genuine_vocabulary() -> None:
    tokens = read_tokens()
    text = b"".join(b"%s %d\n" % (b64encode(token), rank) for rank, token in enumerate(tokens))
    assert len(tokens) == RANKS
    assert hashlib.sha256(text).hexdigest() == SHA256


def test_known_ids() -> None:
    assert decode([9906, 11, 1917, 0]) == "Hello, world!"


def test_no_ids_is_the_empty_text() -> None:
    assert decode([]) == ""


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: ascii(text[:24]))
def test_round_trip(encoder: tiktoken.Encoding, text: str) -> None:
    assert decode(encoder.encode(text, disallowed_special=())) == text


@given(text=st.text())
def test_round_trip_of_any_text(encoder: tiktoken.Encoding, text: str) -> None:
    assert decode(encoder.encode(text, disallowed_special=())) == text


@given(ids=st.lists(st.integers(0, RANKS - 1) | st.sampled_from(sorted(SPECIAL_TOKENS.values()))))
def test_any_ids_decode_as_in_tiktoken(encoder: tiktoken.Encoding, ids: list[int]) -> None:
    assert decode(ids) == encoder.decode(ids)


@pytest.mark.parametrize(
    ("token", "token_id"),
    [
        ("<|endoftext|>", 100257),
        ("<|fim_prefix|>", 100258),
        ("<|fim_middle|>", 100259),
        ("<|fim_suffix|>", 100260),
        ("<|endofprompt|>", 100276),
    ],
)
def test_special_tokens_decode_to_their_names(encoder: tiktoken.Encoding, token: str, token_id: int) -> None:
    assert encoder.encode(token, allowed_special="all") == [token_id]
    assert decode([64, token_id, 65]) == f"a{token}b"


@pytest.mark.parametrize("token_id", [-1, -RANKS, 100256, 100261, 100275, 100277, 2**31, 2**64, 10**30])
def test_ids_outside_the_vocabulary_are_refused_by_name(token_id: int) -> None:
    with pytest.raises(InvalidInput, match=rf"^{token_id} is not a cl100k_base token id\.$") as refusal:
        decode([9906, token_id, -7])
    assert refusal.value.param == "input"


def test_half_a_character_becomes_the_replacement_character(encoder: tiktoken.Encoding) -> None:
    ids = encoder.encode("𠮷")
    assert len(ids) > 1
    assert decode(ids[:1]) == "\N{REPLACEMENT CHARACTER}"
    assert decode([*ids[:1], 64]) == "\N{REPLACEMENT CHARACTER}a"
    assert decode(ids) == "𠮷"
