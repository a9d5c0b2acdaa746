"""Where a text is best cut: what lies between two neighbouring tokens, in any script. Pure."""

from __future__ import annotations

import unicodedata
from enum import IntEnum

from service.choices import Boundary
from service.types import Encoding


class Rank(IntEnum):
    """How good a place between two tokens is for a cut."""

    INSIDE = 0  # a word
    PUNCTUATION = 1  # inside something without spaces, but beside a sign: a/long/path, f(x), or between two kana
    WORD = 2
    SENTENCE = 3
    PARAGRAPH = 4


_BEST = {
    Boundary.PARAGRAPH: Rank.PARAGRAPH,
    Boundary.SENTENCE: Rank.SENTENCE,
    Boundary.WORD: Rank.WORD,
    Boundary.TOKEN: Rank.INSIDE,
}

_ENDS_WITH_SPACE_AFTER = frozenset(".!?…:;।؟۔።՝")
_ENDS_ANYWHERE = frozenset("。！？｡．")
_CLOSERS = frozenset("\"')]}»”’」』）】〉》")
_LOOK_AROUND = 64  # characters: a run of white space or closing signs longer than this tells nothing more
_UNKNOWN = 255


class Places:
    """The places between the tokens of one text; place i is before token i."""

    def __init__(self, encoding: Encoding, text: str, wanted: Boundary) -> None:
        """`wanted` is the best boundary that is looked for."""
        self._starts, self._ends, self._text = encoding.starts, encoding.ends, text
        self._best = _BEST[wanted]
        # Input that came as token ids has no text to look at.
        self._any_will_do = self._best is Rank.INSIDE or not encoding.starts
        # Windows that overlap look at the same places again.
        self._ranks = bytearray([_UNKNOWN]) * (0 if self._any_will_do else len(encoding.ids))

    def best_cut(self, start: int, limit: int) -> tuple[int, bool]:
        """The best place in (start, limit], the latest of its kind, and whether it leaves words whole that should be.

        What is better than the end of a word must be in the second half: a short chunk is too high a price for it.
        """
        if self._any_will_do:
            return limit, True
        best, best_cut, ceiling = int(Rank.INSIDE), limit, int(self._best)
        half = start + (limit - start) // 2
        for cut in range(limit, start, -1):
            if cut < half:
                ceiling = min(ceiling, Rank.WORD)
            if best >= ceiling:
                break
            if (found := min(self._rank(cut), ceiling)) > best:
                best, best_cut = found, cut
        return best_cut, best >= Rank.WORD

    def reach_back(self, cut: int, floor: int) -> int:
        """Where the chunk after `cut` begins when it may overlap the one before: the first place from `floor` on that
        begins a word; `floor` itself where words do not count, or none begins there (the cut is inside a long one)."""
        if self._any_will_do:
            return floor
        return next((i for i in range(floor, cut + 1) if self._rank(i) >= Rank.WORD), floor)

    def _rank(self, place: int) -> int:
        found = self._ranks[place]
        if found == _UNKNOWN:
            found = self._ranks[place] = rank(self._text, self._ends[place - 1], self._starts[place])
        return found


def rank(text: str, end: int, begin: int) -> Rank:
    """What is between a token that ends at `end` and one that begins at `begin`; tokenizers may count white space as
    part of either, and leave out signs that they do not know, or accents."""
    if begin < end or not end:  # several tokens of one character, or a token that stands for no character
        return Rank.INSIDE
    floor, ceiling = max(0, end - _LOOK_AROUND), min(len(text), begin + _LOOK_AROUND)
    while end > floor and text[end - 1].isspace():
        end -= 1
    while begin < ceiling and text[begin].isspace():
        begin += 1
    gap = text[end:begin]
    lines = gap.count("\n")
    if lines:
        return Rank.PARAGRAPH if lines > 1 else Rank.SENTENCE
    before, after = text[end - 1 : end], text[begin : begin + 1]
    last = _before_closers(text, end, floor) if before in _CLOSERS else before
    if last in _ENDS_ANYWHERE and after not in _CLOSERS:
        return Rank.SENTENCE
    if any(map(str.isspace, gap)):
        return Rank.SENTENCE if last in _ENDS_WITH_SPACE_AFTER else Rank.WORD
    if _is_han(before) or _is_han(after):
        return Rank.WORD if before.isalnum() or before in _ENDS_ANYWHERE else Rank.PUNCTUATION
    if _is_kana(before) and _is_kana(after):
        return Rank.PUNCTUATION
    return Rank.INSIDE if _is_of_words(before) and _is_of_words(after) else Rank.PUNCTUATION


def _is_of_words(character: str) -> bool:
    """A letter, a number, or a mark on one."""
    return character.isalnum() or (character != "" and unicodedata.category(character).startswith("M"))


def _before_closers(text: str, end: int, floor: int) -> str:
    while end > floor and text[end - 1] in _CLOSERS:
        end -= 1
    return text[end - 1 : end]


def _is_han(character: str) -> bool:
    """Written without spaces, so that any sign may begin or end a word."""
    return (
        "\u4e00" <= character <= "\u9fff"
        or "\u3400" <= character <= "\u4dbf"
        or "\U00020000" <= character <= "\U0003134f"
    )


def _is_kana(character: str) -> bool:
    """Hiragana or Katakana. Without spaces, too; but a run of them may be one word, as tokenizers take it."""
    return "\u3040" <= character <= "\u30ff"
