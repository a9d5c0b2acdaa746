"""Inputs longer than the model: `split` into windows, and `aggregate` their vectors back into one. Pure.

A window holds `prefix + prompt + text tokens + suffix`, so that the model sees every chunk as a whole input. Cuts
prefer the end of a paragraph, then of a sentence, within the window's second half; then the end of a word; and
inside a word only when that word alone fills the window. Every token of the text is in exactly one chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np

from service.postprocess import normalize
from service.types import Chunk, Encoding, Matrix, TruncationSide, Vector


class Boundary(IntEnum):
    """How good a place between two tokens is for a cut."""

    INSIDE = 0  # a word
    PUNCTUATION = 1  # inside something without spaces, but beside a sign: a/long/path, f(x)
    WORD = 2
    SENTENCE = 3
    PARAGRAPH = 4


_ENDS_WITH_SPACE_AFTER = frozenset(".!?…:;।؟۔።՝")
_ENDS_ANYWHERE = frozenset("。！？｡．")
_CLOSERS = frozenset("\"')]}»”’」』）】〉》")
_LOOK_AROUND = 64  # characters: a run of white space or closing signs longer than this tells nothing more


def split(
    encoding: Encoding, text: str, window: int, prefix: Sequence[int] = (), suffix: Sequence[int] = ()
) -> list[Chunk]:
    """One Chunk where prompt and text fit `window` tokens (special tokens not counted), else several.

    `window` must be larger than the prompt.
    """
    ids = encoding.ids
    if len(ids) <= window:
        return [Chunk([*prefix, *ids, *suffix], len(ids) - encoding.prompt_length)]
    prompt = ids[: encoding.prompt_length]
    return [
        Chunk([*prefix, *prompt, *ids[start:stop], *suffix], stop - start)
        for start, stop in windows(encoding, text, window - len(prompt))
    ]


def truncate(
    encoding: Encoding,
    window: int,
    prefix: Sequence[int] = (),
    suffix: Sequence[int] = (),
    side: TruncationSide = TruncationSide.RIGHT,
) -> Chunk:
    """One window alone, the first, or the last where the left side is cut off; the rest is not read."""
    prompt, text = encoding.ids[: encoding.prompt_length], encoding.ids[encoding.prompt_length :]
    room = max(0, window - len(prompt))
    kept = text[:room] if side is TruncationSide.RIGHT else text[len(text) - room :]
    return Chunk([*prefix, *prompt[:window], *kept, *suffix], len(kept))


def windows(encoding: Encoding, text: str, size: int) -> list[tuple[int, int]]:
    """Half-open ranges of token positions, each at most `size` long, covering the text's tokens in order."""
    ranges = []
    start, total = encoding.prompt_length, len(encoding.ids)
    while total - start > size:
        stop = _best_cut(encoding.offsets, text, start, start + size)
        ranges.append((start, stop))
        start = stop
    ranges.append((start, total))
    return ranges


def _best_cut(offsets: Sequence[tuple[int, int]], text: str, start: int, limit: int) -> int:
    """The best position in (start, limit], the latest of its kind."""
    if not offsets:  # the input came as token ids: there is no text to look at
        return limit
    half = start + (limit - start) // 2
    best, best_cut = Boundary.INSIDE, limit
    for cut in range(limit, start, -1):
        if cut < half and best >= Boundary.WORD:
            break
        found = boundary(text, offsets[cut - 1], offsets[cut])
        if cut < half:  # a short chunk is too high a price for more than whole words
            found = min(found, Boundary.WORD)
        if found > best:
            best, best_cut = found, cut
        if best is Boundary.PARAGRAPH:
            break
    return best_cut


def boundary(text: str, left: tuple[int, int], right: tuple[int, int]) -> Boundary:
    """What lies between two neighbouring tokens; tokenizers may count white space as part of either."""
    end, begin = left[1], right[0]
    if begin < end or not end:  # several tokens of one character, or a token that stands for no character
        return Boundary.INSIDE
    floor, ceiling = max(0, end - _LOOK_AROUND), min(len(text), begin + _LOOK_AROUND)
    while end > floor and text[end - 1].isspace():
        end -= 1
    while begin < ceiling and text[begin].isspace():
        begin += 1
    gap = text[end:begin]
    lines = gap.count("\n")
    if lines:
        return Boundary.PARAGRAPH if lines > 1 else Boundary.SENTENCE
    before, after = text[end - 1 : end], text[begin : begin + 1]
    last = _before_closers(text, end, floor) if before in _CLOSERS else before
    if last in _ENDS_ANYWHERE and after not in _CLOSERS:
        return Boundary.SENTENCE
    if gap:
        return Boundary.SENTENCE if last in _ENDS_WITH_SPACE_AFTER else Boundary.WORD
    if _is_unspaced(before) or _is_unspaced(after):
        return Boundary.WORD if before.isalnum() or before in _ENDS_ANYWHERE else Boundary.PUNCTUATION
    return Boundary.INSIDE if before.isalnum() and after.isalnum() else Boundary.PUNCTUATION


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


def aggregate(vectors: Matrix, weights: Sequence[int]) -> Vector:
    """Vectors of the chunks (chunks, dimensions) → the input's (dimensions,): mean by weight, L2-normalised.

    OpenAI's cookbook weights chunks by their token counts in the same way ("Embedding texts that are longer than
    the model's maximum context length").
    """
    mean = np.average(vectors, axis=0, weights=weights).astype(np.float32)
    result: Vector = normalize(mean[np.newaxis])[0]
    return result
