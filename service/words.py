"""Token ids of words that were met before. Pure, but for what it remembers.

For tokenizers that cut at spaces first and look at each word by itself (BERT's), the ids of a text are those of its
words, one after another. Words of a language repeat, so most need not be cut up again: the library does the same for
BPE, but not for WordPiece. What stands between two spaces is a word here, punctuation included.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence

_Ids = Mapping[str, bytes]  # of arrays: joined at a third of what lists of numbers take

_MOST_WORDS = 50_000  # about 10 MB; all are forgotten when there are more
_LONGEST_WORD = 32  # characters; longer ones are rarely met again


class Words:
    """Safe to call from several threads at once: what one of them forgets, the others still hold."""

    def __init__(self, tokenise: Callable[[Sequence[str]], Sequence[Sequence[int]]]) -> None:
        """`tokenise` gives the ids of each word."""
        self._tokenise = tokenise
        self._known: dict[str, bytes] = {}

    def encode(self, texts: Sequence[str]) -> list[array[int]]:
        """The ids of each text, 4 bytes each."""
        known = self._known
        split = [text.split(" ") for text in texts]
        joined = [_joined(known, words) for words in split]
        found = [ids for ids in joined if ids is not None]
        if len(found) == len(joined):
            return found
        new = [words for words, ids in zip(split, joined, strict=True) if ids is None]
        learnt = self._learn(dict.fromkeys([word for words in new for word in words if word not in known]))
        others = (_both(learnt, known, words) for words in new)
        return [next(others) if ids is None else ids for ids in joined]

    def _learn(self, words: Iterable[str]) -> dict[str, bytes]:
        listed = list(words)
        ids = self._tokenise(listed)
        found = {word: array("i", one).tobytes() for word, one in zip(listed, ids, strict=True)}
        self._keep(found)
        return found

    def _keep(self, found: dict[str, bytes]) -> None:
        if len(self._known) + len(found) > _MOST_WORDS:
            self._known = {}
        self._known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST_WORD)


def _joined(ids: _Ids, words: Sequence[str]) -> array[int] | None:
    """None where a word has none there."""
    try:
        return array("i", b"".join(map(ids.__getitem__, words)))
    except KeyError:
        return None


def _both(found: _Ids, known: _Ids, words: Sequence[str]) -> array[int]:
    return array("i", b"".join([found[word] if word in found else known[word] for word in words]))
