"""fastText's .bin files (version 11 and 12) → words and rows; the layout is that of its own `FastText::saveModel`.

magic, version                                     2 int32
dim ws epoch minCount neg wordNgrams loss model    8 int32
bucket minn maxn lrUpdateRate, t                   4 int32, float64
size nwords nlabels, ntokens pruneidx_size         3 int32, 2 int64
the dictionary                                     for each entry: word, a zero byte, int64 count, int8 kind
whether it is quantised                            1 byte
rows columns, the input matrix                     2 int64, float32: a row a word, then a row a bucket
… (the output matrix, which is for training)
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from models.weights import Array
from models.word_vectors import FASTTEXT_MAGIC, opened
from service.errors import CheckpointError
from service.subwords import ngram_buckets

END_OF_SENTENCE = "</s>"
_VERSIONS = (11, 12)
_SUPERVISED = 3
_LONGEST_WORD = 1 << 16  # bytes
_BLOCK_BYTES = 1 << 24


@dataclass(frozen=True)
class FastText:
    """What comes before the matrix. `rows` are the words' and then `buckets` of n-grams."""

    words: list[bytes]
    dimensions: int
    shortest: int
    longest: int
    buckets: int

    @property
    def rows(self) -> int:
        """Of the file's matrix."""
        return len(self.words) + self.buckets


class Reader:
    """One file. Use as a context manager, `head` first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = opened(path)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def head(self) -> FastText:
        """Raises CheckpointError for what is damaged or has no vectors of single words."""
        magic, version = self._bytes(4), self._numbers("<i")[0]
        if magic != FASTTEXT_MAGIC or version not in _VERSIONS:
            raise self._refused(f"is not a fastText model of version {' or '.join(map(str, _VERSIONS))}")
        dim, _, _, _, _, _, _, model, bucket, minn, maxn, _, _ = self._numbers("<12id")
        if model == _SUPERVISED:
            raise self._refused(
                "is a supervised classifier: its rows are trained to tell labels apart",
                "use the model of word vectors (skipgram, cbow)",
            )
        words = self._dictionary()
        if self._numbers("<?")[0]:
            raise self._refused("is quantised (.ftz): its rows are codes", "use the .bin it was made from")
        rows, columns = self._numbers("<2q")
        if not 0 < dim == columns or bucket < 0 or rows != len(words) + bucket or not 0 <= minn <= max(maxn, minn):
            raise self._refused(
                f"has a matrix of {rows} x {columns}, not one of {len(words)} words and {bucket} buckets x {dim}"
            )
        return FastText(words, dim, minn, maxn, bucket)

    def blocks(self, head: FastText) -> Iterator[Array]:
        """The matrix, some rows at a time. Raises CheckpointError where it ends early."""
        row, left = 4 * head.dimensions, head.rows
        while left:
            count = min(left, max(1, _BLOCK_BYTES // row))
            block = np.frombuffer(self._bytes(count * row), "<f4").reshape(count, head.dimensions)
            if not np.isfinite(block).all():
                raise self._refused(f"has numbers that are not finite after row {head.rows - left}")
            yield block.astype(np.float32, copy=False)
            left -= count

    def _dictionary(self) -> list[bytes]:
        size, words, labels, _, pruned = self._numbers("<3i2q")
        if size != words + labels or words < 1:
            raise self._refused(f"has a dictionary of {size} entries, {words} words and {labels} labels")
        if pruned >= 0:
            raise self._refused("has n-grams left out (pruned)", "use the .bin it was made from")
        entries = [self._entry() for _ in range(size)]
        return entries[:words]

    def _entry(self) -> bytes:
        word = bytearray()
        while (byte := self._bytes(1)) != b"\0":
            word += byte
            if len(word) > _LONGEST_WORD:
                raise self._refused("is garbled: a word does not end")
        self._bytes(9)
        if b"\n" in word:  # words.txt has one on each line; fastText reads none with white space in it
            raise self._refused("is garbled: a word holds a line feed")
        return bytes(word)

    def _numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack(layout, self._bytes(struct.calcsize(layout)))

    def _bytes(self, size: int) -> bytes:
        try:
            data = self._file.read(size)
        except (OSError, EOFError) as error:
            raise self._refused(f"cannot be read: {error}") from error
        if len(data) < size:
            raise self._refused("ends before its matrix does: it is not complete")
        return data

    def _refused(self, reason: str, remedy: str = "fetch the file again") -> CheckpointError:
        return CheckpointError(f"{self._path} {reason}", remedy)


def complete_words(rows: Array, head: FastText, first: int, stop: int) -> None:
    """Turns the rows of words [first, stop) into what fastText gives for them: the mean of the word's own row and
    those of its n-grams. `rows` is the whole matrix (words + buckets, dimensions) and is changed in place."""
    base = len(head.words)
    for number in range(first, stop):
        word = head.words[number].decode("utf-8", "surrogateescape")
        if word == END_OF_SENTENCE:
            continue
        grams = ngram_buckets(word, head.shortest, head.longest, head.buckets)
        if grams:
            total = rows[number] + rows[[base + gram for gram in grams]].sum(axis=0)
            rows[number] = total / (1 + len(grams))
