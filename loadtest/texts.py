"""Texts to embed: slices of Python's own documentation, every one distinct, of known lengths in tokens.

English prose is at hand wherever Python is, and costs a tokenizer what prose costs. Nothing is drawn twice, so that
no cache can help.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pydoc_data.topics import topics

from service.tokenizer import Tokenizer

_RULER = re.compile(r"[*=\-~^+]{3,}")


@dataclass(frozen=True, slots=True)
class Mix:
    """Lengths in tokens, special tokens counted, evenly spread from `shortest` to `longest`."""

    name: str
    shortest: int
    longest: int


SINGLES = Mix("singles", 8, 24)
BULK = Mix("bulk", 8, 250)


@dataclass(frozen=True, slots=True)
class Text:
    """A text and the row of token ids that it is to the model, special tokens included."""

    content: str
    ids: Sequence[int]


class Texts:
    """Draws texts by a seed: the same ones for the same seed, model and version of Python."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._tokenizer = tokenizer
        self._random = random.Random(seed)
        self._drawn: set[str] = set()
        self._prose = " ".join(_RULER.sub(" ", " ".join(topics.values())).split())
        # A window of nothing makes every text a long one, and long ones come with offsets.
        (encoding,) = tokenizer.encode([self._prose], [""], window=0)
        self._offsets = list(zip(encoding.starts, encoding.ends, strict=True))
        self._starts = [
            i for i, (start, _) in enumerate(self._offsets) if start == 0 or self._prose[start - 1].isspace()
        ]
        self._is_start = frozenset(self._starts)

    def draw(self, count: int, mix: Mix) -> list[Text]:
        """`count` texts that were never drawn before, of lengths in random order."""
        found: list[Text] = []
        while len(found) < count:
            wanted = [self._random.randint(mix.shortest, mix.longest) for _ in range(count - len(found))]
            found += self._tokenised([self._slice(length - self._tokenizer.special_tokens) for length in wanted], mix)
        return found

    def _slice(self, tokens: int) -> str:
        """Whole words, that many tokens of them, from anywhere."""
        while True:
            first = self._random.choice(self._starts)
            stop = first + tokens
            if stop in self._is_start:
                content = self._prose[self._offsets[first][0] : self._offsets[stop - 1][1]]
                if content not in self._drawn:
                    self._drawn.add(content)
                    return content

    def _tokenised(self, contents: Sequence[str], mix: Mix) -> list[Text]:
        """A tokenizer may count a slice otherwise than where it stood: what no longer fits the mix is left out."""
        around = self._tokenizer.prefix, self._tokenizer.suffix
        encodings = self._tokenizer.encode(contents, [""] * len(contents), window=10 * mix.longest)
        texts = [
            Text(content, [*around[0], *encoding.ids, *around[1]])
            for content, encoding in zip(contents, encodings, strict=True)
        ]
        return [text for text in texts if mix.shortest <= len(text.ids) <= mix.longest]
