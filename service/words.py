"""Token ids of words that were met before. Pure, but for what it remembers.

For tokenizers that cut at spaces first and look at each word by itself (BERT's), the ids of a text are those of its
words, one after another. Words of a language repeat, so most need not be cut up again: the library does the same for
BPE, but not for WordPiece. What stands between two spaces is a word here, punctuation included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
        known = self._known
        texts_words = [text.split(" ") for text in texts]
        new = dict.fromkeys([word for words in texts_words for word in words if word not in known])
        if not new:
            return [[one for word in words for one in known[word]] for words in texts_words]
        found = dict(zip(new, self._tokenise(list(new)), strict=True))
        self._keep(found)
        return [
            [one for word in words for one in (found[word] if word in found else known[word])] for words in texts_words
        ]

    def _keep(self, found: dict[str, Sequence[int]]) -> None:
        if len(self._known) + len(found) > _MOST_WORDS:
            self._known = {}
        self._known.update((word, ids) for word, ids in found.items() if len(word) <= _LONGEST_WORD)
