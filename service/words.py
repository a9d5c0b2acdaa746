"""Token ids of words that were met before. Pure, but for what it remembers.

For tokenizers that cut at spaces first and look at each word by itself (BERT's), the ids of a text are those of its
words, one after another. Words of a language repeat, so most need not be cut up again: the library does the same for
BPE, but not for WordPiece. What stands between two spaces is a word here, punctuation included.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from itertools import chain

_MOST_WORDS = 50_000  # about 10 MB; all are forgotten when there are more
_LONGEST_WORD = 32  # characters; longer ones are rarely met again


class Words:
    """Safe to call from several threads at once: what one of them forgets, the others still hold."""

    def __init__(self, tokenise: Callable[[Sequence[str]], Sequence[Sequence[int]]]) -> None:
        """`tokenise` gives the ids of each word."""
        self._tokenise = tokenise
        self._known: dict[str, Sequence[int]] = {}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""
        split = [text.split(" ") for text in texts]
        known = self._known
        try:
            return [_joined(known, words) for words in split]
        except KeyError:
            new = dict.fromkeys([word for words in split for word in words if word not in known])
        found = dict(zip(new, self._tokenise(list(new)), strict=True))
        self._keep(found)
        both = ChainMap(found, known)
        return [_joined(both, words) for words in split]

    def _keep(self, found: dict[str, Sequence[int]]) -> None:
        if len(self._known) + len(found) > _MOST_WORDS:
            self._known = {}
        self._known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST_WORD)


def _joined(ids: Mapping[str, Sequence[int]], words: Sequence[str]) -> list[int]:
    """Raises KeyError for a word that has none there."""
    return list(chain.from_iterable(map(ids.__getitem__, words)))
