"""A file of word vectors → what a bundle needs of it: rows, words, the graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from models import fasttext, static
from models.checkpoint import Checkpoint
from models.modules import Pooling
from models.recipe import Format
from models.sources import Say
from models.static import Static
from models.weights import Array
from models.word_vectors import Block, blocks, recognise
from service.bundle import WORDS_TXT, WordRules
from service.errors import CheckpointError

_SAMPLE = 20  # words that become a golden text
_AT_ONCE = 10_000  # words between two steps of the bar


def write(path: Path, chosen: Format | None, folder: Path, say: Say) -> Static:
    """Writes rows and words into `folder`. Raises CheckpointError."""
    kind = chosen or recognise(path)
    say(f"reading {path.name} ({kind})")
    return _fasttext(path, folder, say) if kind == "fasttext" else _plain(path, kind, folder, say)


def _plain(path: Path, kind: Format, folder: Path, say: Say) -> Static:
    sieve = _Sieve()
    with tqdm(unit=" words", unit_scale=True, disable=None, file=sys.stderr) as bar:
        rows = static.save_rows(folder, _rows(sieve, blocks(path, kind), bar.update))
    if not sieve.words:
        raise CheckpointError(f"{path} has no words", "fetch the file again")
    _write_words(folder, [word.encode() for word in sieve.words])
    lower = all(word == word.lower() for word in sieve.words)
    say(f"{rows} words of {sieve.dimensions} dimensions{sieve.left_out}")
    say(
        "texts are cut at white space; what is not a word is cut beside signs, and what is not one then is left out; "
        + ("texts are lower-cased, as all words are" if lower else "capital letters count")
    )
    return Static(
        _checkpoint(path, rows, sieve.dimensions),
        static.plain(rows, sieve.dimensions),
        WordRules(lower_case=lower, punctuation=True),
        sample=_sample(sieve.words),
    )


class _Sieve:
    """Keeps what a text can hold: no word twice, nothing that is not UTF-8, nothing with a space in it."""

    def __init__(self) -> None:
        self.words: dict[str, None] = {}
        self.dimensions = 0
        self._again = self._not_utf8 = self._spaced = 0

    def take(self, block: Block) -> Array:
        """The rows that are kept."""
        kept = [number for number, word in enumerate(block.words) if self._is_new(word)]
        self.dimensions = block.rows.shape[1]
        return block.rows if len(kept) == len(block.rows) else block.rows[kept]

    @property
    def left_out(self) -> str:
        """What was not kept, and how often, as the end of a line."""
        counts = {
            "met again (the first one counts)": self._again,
            "that are not UTF-8": self._not_utf8,
            "with white space in them, or empty": self._spaced,
        }
        return "".join(f"; left out: {count} {what}" for what, count in counts.items() if count)

    def _is_new(self, raw: bytes) -> bool:
        try:
            word = raw.decode()
        except UnicodeDecodeError:
            self._not_utf8 += 1
            return False
        if word in self.words:
            self._again += 1
            return False
        if word.split() != [word]:
            self._spaced += 1
            return False
        self.words[word] = None
        return True


def _rows(sieve: _Sieve, found: Iterator[Block], seen: Callable[[int], object]) -> Iterator[Array]:
    for block in found:
        seen(len(block.words))
        yield sieve.take(block)


def _fasttext(path: Path, folder: Path, say: Say) -> Static:
    with fasttext.Reader(path) as reader:
        head = reader.head()
        static.save_rows(folder, reader.blocks(head))
    rows = np.memmap(folder / static.ROWS_FILE, "<f4", "r+", shape=(head.rows + 1, head.dimensions))
    with tqdm(total=len(head.words), unit=" words", unit_scale=True, disable=None, file=sys.stderr) as bar:
        for first in range(0, len(head.words), _AT_ONCE):
            stop = min(first + _AT_ONCE, len(head.words))
            fasttext.complete_words(rows, head, first, stop)
            bar.update(stop - first)
    rows.flush()
    _write_words(folder, head.words)
    grams = f"n-grams of {head.shortest} to {head.longest} characters in {head.buckets} buckets"
    has_grams = bool(head.longest and head.buckets)
    say(f"{len(head.words)} words of {head.dimensions} dimensions, " + (grams if has_grams else "no n-grams"))
    say("texts are cut at white space alone and capital letters count, as in fastText's get_sentence_vector")
    words = [word.decode("utf-8", "replace") for word in head.words[: 2 * _SAMPLE]]
    return Static(
        _checkpoint(path, len(head.words) + 2 * head.buckets, head.dimensions),
        static.of_subwords(len(head.words), head.buckets, head.dimensions),
        WordRules(
            lower_case=False,
            punctuation=False,
            shortest=head.shortest,
            longest=head.longest,
            buckets=head.buckets,
        ),
        is_mean=False,
        sample=_sample(words),
    )


def _checkpoint(path: Path, ids: int, dimensions: int) -> Checkpoint:
    return Checkpoint(
        folder=path.parent,
        config=static.as_config(ids, dimensions),
        pooling=Pooling(("mean",)),
        heads=(),
        max_seq_length=static.MAX_SEQ_LENGTH,
        lower_case=False,
        pad_token_id=ids,
        prompts={},
        default_prompt_name=None,
        matryoshka_dimensions=(),
    )


def _write_words(folder: Path, words: list[bytes]) -> None:
    with (folder / WORDS_TXT).open("wb") as file:
        file.writelines(word + b"\n" for word in words)


def _sample(words: Iterator[str] | list[str] | dict[str, None]) -> str:
    """A text of known words, in case the usual golden texts hold none."""
    return " ".join(word for word, _ in zip(words, range(_SAMPLE), strict=False))
