"""Texts → the ids of known words, for word vectors: word2vec, GloVe, fastText. Pure.

Stands where other models have a tokenizer of the library `tokenizers`, and offers what `service.tokenizer` asks of
one. A word that is not known has the ids of its n-grams, where the model has such, or none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from service.bundle import RECOMPILE, WordRules
from service.errors import BundleError
from service.subwords import ngram_buckets

_UNSEEN_KEPT = 50_000  # of words that are not in the vocabulary, about 20 MB
_LONGEST_KEPT = 64  # characters of such a word: one of 50,000 would take 10 MB by itself
_ATOM = re.compile(r"[^\W_]+|[\W_]")
_LONGEST_RUN = 16  # of atoms that may be one entry of the vocabulary: state-of-the-art has 7
_SPACED = re.compile(r"\S+")
_ASCII_SPACED = re.compile(r"[^ \t\n\v\f\r]+")  # what C++ cuts at in the classic locale, and so does fastText


@dataclass(frozen=True, slots=True)
class Found:
    """Ids, and the characters of the text [begin, end) that each stands for."""

    ids: list[int]
    offsets: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)


class Vocabulary:
    """Words in the order of their rows. Safe to call from several threads at once.

    With n-grams there are two ids for each of their rows, so that a graph sees where a word begins: words, n-grams
    that begin a word, n-grams that continue one, and at last an id that stands for no word and no row.
    """

    def __init__(self, words: Sequence[str], rules: WordRules) -> None:
        self._words = words
        # The first of equals counts, as in gensim.
        self._known = dict(zip(reversed(words), range(len(words) - 1, -1, -1), strict=True))
        self._rules = rules
        self._pattern = _SPACED if rules.punctuation else _ASCII_SPACED
        self._kept = lru_cache(_UNSEEN_KEPT)(self._parts)

    @classmethod
    def read(cls, path: Path, rules: WordRules) -> Vocabulary:
        """One word a line. Raises BundleError."""
        try:
            words = path.read_bytes().decode("utf-8", "surrogateescape").split("\n")
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}", RECOMPILE) from error
        return cls(words[:-1], rules)

    # --- what service.tokenizer asks of a tokenizer -----------------------------------------------------------

    def get_vocab_size(self, with_added_tokens: bool) -> int:
        """Every id is below it."""
        return len(self._words) + 2 * self._rules.buckets

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """There are none."""
        return {}

    def encode_batch_fast(self, texts: Sequence[str], add_special_tokens: bool) -> list[Found]:
        """Without offsets."""
        return [Found(list(chain.from_iterable(map(self._ids, self._split(text))))) for text in texts]

    def encode_batch(self, texts: Sequence[str], add_special_tokens: bool) -> list[Found]:
        """With offsets: every n-gram of a word stands for the whole of it."""
        return [self._found(text) for text in texts]

    def id_to_token(self, number: int) -> str | None:
        """The word; n-grams have no spelling, as many share a row."""
        return self._words[number] if number < len(self._words) else "<n-gram>"

    def decode_batch(self, many: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """Words with a space between them."""
        return [" ".join(self._words[one] for one in ids if one < len(self._words)) for ids in many]

    # --- words ------------------------------------------------------------------------------------------------

    def _split(self, text: str) -> list[str]:
        cased = text.lower() if self._rules.lower_case else text
        return cased.split() if self._rules.punctuation else self._pattern.findall(cased)

    def _ids(self, word: str) -> Sequence[int]:
        known = self._known.get(word)
        return self._unseen(word)[0] if known is None else (known,)

    def _found(self, text: str) -> Found:
        found = Found([])
        for match in self._pattern.finditer(text):
            written, begin = match.group(), match.start()
            word = written.lower() if self._rules.lower_case else written
            places = range(len(word) + 1) if len(word) == len(written) else _places(written)
            for number, (start, stop) in self._pieces(word):
                found.ids.append(number)
                found.offsets.append((begin + places[start], begin + places[stop]))
        return found

    def _pieces(self, word: str) -> Iterator[tuple[int, tuple[int, int]]]:
        known = self._known.get(word)
        if known is not None:
            yield known, (0, len(word))
        else:
            yield from zip(*self._unseen(word), strict=True)

    def _unseen(self, word: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        return self._kept(word) if len(word) <= _LONGEST_KEPT else self._parts(word)

    def _parts(self, word: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
        """Ids and places of what is known of a word that is not."""
        if self._rules.punctuation:
            pairs = list(self._longest_parts(word))
            return tuple(number for number, _ in pairs), tuple(place for _, place in pairs)
        rules = self._rules
        grams = ngram_buckets(word, rules.shortest, rules.longest, rules.buckets)
        first, rest = len(self._words), len(self._words) + rules.buckets
        ids = tuple((rest if i else first) + gram for i, gram in enumerate(grams))
        return ids, ((0, len(word)),) * len(ids)

    def _longest_parts(self, word: str) -> Iterator[tuple[int, tuple[int, int]]]:
        """From the left, always the longest entry of the vocabulary that begins and ends beside a sign; what is in
        none is left out."""
        atoms = _ATOM.findall(word)
        edges = list(accumulate(map(len, atoms), initial=0))
        at = 0
        while at < len(atoms):
            for stop in range(min(len(atoms), at + _LONGEST_RUN), at, -1):
                number = self._known.get(word[edges[at] : edges[stop]])
                if number is not None:
                    yield number, (edges[at], edges[stop])
                    at = stop
                    break
            else:
                at += 1


def _places(written: str) -> list[int]:
    """For each place in the word in lower case the one in the word as it is written: İ has two letters there."""
    places = [i for i, letter in enumerate(written) for _ in letter.lower()]
    return [*places, len(written)]
