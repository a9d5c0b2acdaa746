"""Texts that are made for a tokenizer's worst case, for every kind of tokenizer there is."""

from __future__ import annotations

import random
import resource
import string
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers

from service.bundle import WordRules
from service.errors import TooManyTokens
from service.tokenizer import Tokenizer

SIZE = 55_000  # characters: two slices
MOST = 300_000  # tokens
HELD = 5.0  # seconds that no thread waits for another's call, on any machine
MEGABYTES = 300

_ANY = random.Random(1)
TEXTS = {
    "one letter": "a" * SIZE,
    "marks on one letter": "a" + "\u0301" * SIZE,
    "all marks": "".join(chr(_ANY.randrange(0x300, 0x370)) for _ in range(SIZE)),
    "zalgo": ("a" + "\u0301\u0316\u0334" * 10) * (SIZE // 31),
    "ligatures": "\ufdfa" * SIZE,
    "all of Chinese": "".join(chr(0x4E00 + i % 20_000) for i in range(SIZE)),
    "a giant word": "".join(_ANY.choices(string.ascii_lowercase, k=SIZE)),
    "spaces": (" " * 999 + "a") * (SIZE // 1000),
    "joined faces": "\U0001f469\u200d" * (SIZE // 2),
    "jamo": "\u1100\u1161\u11a8" * (SIZE // 3),
    "quotes": "'" * SIZE,
}
_GPT = r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_BYTES = [f"<0x{i:02X}>" for i in range(256)]
_PIECES = [("<unk>", 0.0), ("▁", -2.0), ("▁a", -3.5), ("aa", -3.2), *((one, -4.0) for one in string.ascii_lowercase)]


def _byte_level() -> tokenizers.Tokenizer:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("a", "a"), ("aa", "aa"), ("Ġ", "a"), ("Ġ", "Ġ")]
    words = {one: i for i, one in enumerate([*letters, *(a + b for a, b in merges)])}
    made = tokenizers.Tokenizer(models.BPE(words, merges))
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_GPT), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    return made


def _uncut() -> tokenizers.Tokenizer:
    """As Llama's and Gemma's: the whole text is one word."""
    words = {one: i for i, one in enumerate([*_BYTES, "<unk>", "▁", "a", "aa", "▁a"])}
    merges = [("a", "a"), ("▁", "a")]
    made = tokenizers.Tokenizer(models.BPE(words, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return made


def _unigram(normalizer: normalizers.Normalizer, *, by_bytes: bool) -> tokenizers.Tokenizer:
    pieces = [*_PIECES, *((one, -9.0) for one in _BYTES)] if by_bytes else _PIECES
    made = tokenizers.Tokenizer(models.Unigram(pieces, 0, by_bytes))
    made.normalizer = normalizers.Sequence([normalizer, normalizers.Replace(Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    return made


def _word_level() -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return made


KINDS: dict[str, Callable[[], tokenizers.Tokenizer]] = {
    "byte-level BPE": _byte_level,
    "BPE of uncut texts": _uncut,
    "Unigram": lambda: _unigram(normalizers.NFKC(), by_bytes=False),
    "Unigram with bytes": lambda: _unigram(normalizers.NFKD(), by_bytes=True),
    "words": _word_level,
}
WORDS = {
    "word vectors": WordRules(lower_case=True, punctuation=True),
    "n-grams": WordRules(lower_case=False, punctuation=False, shortest=3, longest=3, buckets=1000),
}


@contextmanager
def watched() -> Iterator[Callable[[], float]]:
    """The value gives the longest time so far for which another thread was kept from running, in seconds."""
    longest, stop = [0.0], threading.Event()

    def run() -> None:
        last = time.monotonic()
        while not stop.is_set():
            time.sleep(0.001)
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield lambda: longest[0]
    finally:
        stop.set()
        thread.join()


def tokens_of(tokenizer: Tokenizer, text: str) -> int:
    """Of a text; or as many as were counted, where they are too many."""
    try:
        (found,) = tokenizer.encode([text], [""], 254, MOST)
    except TooManyTokens as error:
        return error.actual
    return len(found.ids)


def check_every_text(tokenizer: Tokenizer) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with watched() as longest:
        for name, text in TEXTS.items():
            assert tokens_of(tokenizer, text) <= 4 * MOST, name
    assert longest() < HELD
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 1024 * MEGABYTES


@pytest.mark.parametrize("kind", KINDS)
def test_no_text_takes_the_memory_or_the_other_threads(kind: str, tmp_path: Path) -> None:
    KINDS[kind]().save(str(tmp_path / "tokenizer.json"))
    check_every_text(Tokenizer(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize("kind", WORDS)
def test_nor_where_words_are_looked_up(kind: str, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nriver\n", "utf-8")
    check_every_text(Tokenizer(tmp_path / "words.txt", WORDS[kind]))
