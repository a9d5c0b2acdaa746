"""Where a text is best cut: what lies between two neighbouring tokens, in any script. Pure."""

from __future__ import annotations

from enum import IntEnum

from service.types import Boundary, Encoding


class Rank(IntEnum):
    """How good a place between two tokens is for a cut."""

    INSIDE = 0  # a word
    PUNCTUATION = 1  # inside something without spaces, but beside a sign: a/long/path, f(x)
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


def best_cut(encoding: Encoding, text: str, start: int, limit: int, wanted: Boundary) -> tuple[int, bool]:
    """The best position in (start, limit], the latest of its kind, and whether it leaves words whole that should be.

    What is better than the end of a word must be in the second half: a short chunk is too high a price for it.
    """
    best, best_cut = Rank.INSIDE, limit
    ceiling = _BEST[wanted]
    if ceiling is Rank.INSIDE or not encoding.starts:  # it came as token ids: there is no text to look at
        return limit, True
    half = start + (limit - start) // 2
    for cut in range(limit, start, -1):
        if cut < half:
            ceiling = min(ceiling, Rank.WORD)
        if best >= ceiling:
            break
        found = min(rank(text, encoding.ends[cut - 1], encoding.starts[cut]), ceiling)
        if found > best:
            best, best_cut = found, cut
    return best_cut, best >= Rank.WORD


def reach_back(encoding: Encoding, text: str, cut: int, floor: int, wanted: Boundary) -> int:
    """Where the chunk after `cut` begins when it may overlap the one before: the first position from `floor` on that
    begins a word; `floor` itself where words do not count, or the cut is inside one."""
    if wanted is Boundary.TOKEN or not encoding.starts:
        return floor
    enough = min(Rank.WORD, rank(text, encoding.ends[cut - 1], encoding.starts[cut]))
    return next(i for i in range(floor, cut + 1) if rank(text, encoding.ends[i - 1], encoding.starts[i]) >= enough)


def rank(text: str, end: int, begin: int) -> Rank:
    """What is between a token that ends at `end` and one that begins at `begin`; tokenizers may count white space as
    part of either."""
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
    if gap:
        return Rank.SENTENCE if last in _ENDS_WITH_SPACE_AFTER else Rank.WORD
    if _is_unspaced(before) or _is_unspaced(after):
        return Rank.WORD if before.isalnum() or before in _ENDS_ANYWHERE else Rank.PUNCTUATION
    return Rank.INSIDE if before.isalnum() and after.isalnum() else Rank.PUNCTUATION


def _before_closers(text: str, end: int, floor: int) -> str:
    while end > floor and text[end - 1] in _CLOSERS:
        end -= 1
    return text[end - 1 : end]


def _is_unspaced(character: str) -> bool:
    """Han, Hiragana or Katakana: written without spaces, so that any sign may end a word."""
    return (
        "\u4e00" <= character <= "\u9fff"
        or "\u3040" <= character <= "\u30ff"
        or "\u3400" <= character <= "\u4dbf"
        or "\U00020000" <= character <= "\U0003134f"
    )
