"""Turns cl100k_base token ids, which OpenAI's clients send in place of a text, back into the text.

Only decoding: a table from id to bytes, with no merge rules and no regular expression.

`data/cl100k_base.zlib` is one zlib stream over two columns, in order of rank:

    100,256 bytes       the length of every token, 1 to 128
    643,830 bytes       the tokens themselves, end to end

The vocabulary comes from tiktoken (Copyright (c) 2022 OpenAI, Shantanu Jain; MIT licence, in NOTICE).
`tests/data/pack_cl100k.py` packed it from OpenAI's cl100k_base.tiktoken, and a test rebuilds that file
from the table and compares its sha256.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path

from service.errors import InvalidInput

DATA = Path(__file__).parent / "data" / "cl100k_base.zlib"

RANKS = 100_256  # ordinary tokens: the ids 0 to 100,255

# The ids between and above these mean nothing.
SPECIAL_TOKENS = {
    "<|endoftext|>": 100_257,
    "<|fim_prefix|>": 100_258,
    "<|fim_middle|>": 100_259,
    "<|fim_suffix|>": 100_260,
    "<|endofprompt|>": 100_276,
}


def decode(ids: Sequence[int]) -> str:
    """The text that `ids` stand for; bytes that are no UTF-8 become U+FFFD, as in tiktoken.

    Raises InvalidInput naming the first id that is not in the vocabulary. The first call of a process takes
    some 30 ms to read the table.
    """
    try:
        return b"".join(map(_table().__getitem__, ids)).decode("utf-8", errors="replace")
    except KeyError as error:
        raise InvalidInput(f"{error.args[0]} is not a cl100k_base token id.", "input") from None


def read_tokens() -> list[bytes]:
    """Reads the ordinary tokens from the data file, in order of rank."""
    columns = zlib.decompress(DATA.read_bytes())
    ends = accumulate(columns[:RANKS], initial=RANKS)
    return [columns[start:end] for start, end in pairwise(ends)]


@cache
def _table() -> dict[int, bytes]:
    """Id → bytes. Threads that come first at once each build it; the tables are equal, so neither minds."""
    table = dict(enumerate(read_tokens()))
    table.update((token_id, token.encode()) for token, token_id in SPECIAL_TOKENS.items())
    return table
