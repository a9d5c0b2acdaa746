"""Inputs longer than a row: `split` into chunks, and `aggregate` their vectors back into one. Pure.

A chunk's row holds `prefix + prompt + text tokens + suffix`, so that the model sees every chunk as a whole input. Cuts
prefer the end of a paragraph, then of a sentence, within the second half of what fits; then the end of a word; and
inside a word only when that word alone fills the window. Without overlap every token of the text is in exactly one
chunk, and every character that is not white space in exactly one span.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from service.boundaries import Places
from service.choices import Aggregation, Boundary, TruncationSide
from service.postprocess import normalize
from service.types import Chunk, Encoding, Matrix, Span, TwoPartRow, Vector


@dataclass(frozen=True, slots=True)
class Window:
    """What a row has room for: `size` tokens of prompt and text between the special tokens `prefix` and `suffix`.

    `blank` stands for an input without any token, where it would have none at all.
    """

    size: int
    prefix: Sequence[int] = ()
    suffix: Sequence[int] = ()
    overlap: int = 0
    boundary: Boundary = Boundary.PARAGRAPH
    blank: Sequence[int] = ()

    def row(self, encoding: Encoding, start: int, stop: int) -> Sequence[int]:
        """The prompt and the tokens in [start, stop), 4 bytes each."""
        prompt = encoding.ids[: encoding.prompt_length]
        row = array("i", (*self.prefix, *prompt, *encoding.ids[start:stop], *self.suffix))
        return _parted(row, encoding.pooled_from) if encoding.pooled_from else row


def _parted(row: Sequence[int], pooled_from: int) -> TwoPartRow:
    """Something is always left to pool: a tokenizer may make more of the prompt alone than of prompt and text."""
    return TwoPartRow(row, max(0, min(pooled_from, len(row) - 1)))


def whole(encoding: Encoding, text: str, window: Window) -> Chunk:
    """An input that fits, as its only chunk."""
    row = array("i", window.prefix)
    row.extend(encoding.ids)
    row.extend(window.suffix)
    ready: Sequence[int] = row or window.blank
    if encoding.pooled_from:
        ready = _parted(ready, encoding.pooled_from)
    return Chunk(ready, len(encoding.ids) - encoding.prompt_length, _stripped(text, 0, len(text)))


def split(encoding: Encoding, text: str, window: Window) -> Iterator[Chunk]:
    """One chunk where prompt and text fit the window, else several. The window must be larger than the prompt and the
    overlap together."""
    if len(encoding.ids) <= window.size:
        yield whole(encoding, text, window)
        return
    for start, stop in windows(encoding, text, window):
        yield Chunk(window.row(encoding, start, stop), stop - start, _span(encoding, text, start, stop))


def split_late(encoding: Encoding, text: str, window: Window) -> Iterator[Chunk]:
    """The same chunks as parts of one row, that of the whole input (late chunking, arXiv:2409.04701).

    The first part takes what stands before the text and the last what stands behind it, so that a text that is not
    cut has the vector it always has.
    """
    row = window.row(encoding, encoding.prompt_length, len(encoding.ids))
    before = len(window.prefix)
    for start, stop in windows(encoding, text, window):
        first = 0 if start == encoding.prompt_length else before + start
        last = len(row) if stop == len(encoding.ids) else before + stop
        yield Chunk(row, stop - start, _span(encoding, text, start, stop), (first, last))


def truncate(encoding: Encoding, text: str, window: Window, side: TruncationSide = TruncationSide.RIGHT) -> Chunk:
    """One chunk alone, the first, or the last where the left side is cut off; the rest is not read."""
    length = encoding.prompt_length
    room = max(0, window.size - length)
    start = length if side is TruncationSide.RIGHT else max(length, len(encoding.ids) - room)
    stop = min(start + room, len(encoding.ids))
    fitting = encoding._replace(prompt_length=min(length, window.size))
    return Chunk(window.row(fitting, start, stop), stop - start, _span(encoding, text, start, stop))


def windows(encoding: Encoding, text: str, window: Window) -> Iterator[Span]:
    """Half-open ranges of token positions that cover the text's tokens in order.

    Each fits the window beside the prompt, and shares at most `overlap` tokens with the one before it. A word that
    would be cut for the sake of the overlap gets no overlap instead.
    """
    size, total = window.size - encoding.prompt_length, len(encoding.ids)
    places = Places(encoding, text, window.boundary)
    begin = start = encoding.prompt_length  # of the range, and of what no range has yet
    while total - begin > size:
        stop, is_whole = places.best_cut(start, begin + size)
        if not is_whole and begin < start:
            begin, stop = _alone(places, start, size, total) or (begin, stop)
        yield begin, stop
        if stop == total:
            return
        floor = max(stop - window.overlap, begin + 1)
        begin, start = places.reach_back(stop, floor), stop
    yield begin, total


def _alone(places: Places, start: int, size: int, total: int) -> Span | None:
    """The range from `start` on without overlap, if words are whole in it."""
    if total - start <= size:
        return start, total
    stop, is_whole = places.best_cut(start, start + size)
    return (start, stop) if is_whole else None


def _span(encoding: Encoding, text: str, start: int, stop: int) -> Span | None:
    """Code points that the tokens in [start, stop) stand for. Neighbouring ranges have neighbouring spans, so that a
    character that no token stands for belongs to one of them as well; white space at the ends does not count."""
    if len(encoding.starts) < len(encoding.ids):
        return None
    begin = 0 if start == encoding.prompt_length else encoding.starts[start]
    end = len(text) if stop == len(encoding.ids) else encoding.starts[stop]
    return _stripped(text, begin, end)


def _stripped(text: str, begin: int, end: int) -> Span:
    part = text[begin:end]
    begin += len(part) - len(part.lstrip())
    return begin, begin + len(part.strip())


def late_vectors(states: Matrix, parts: Sequence[Span]) -> Matrix:
    """Token vectors of a row (tokens, hidden) → the means of its parts (parts, hidden)."""
    return np.stack([states[start:stop].mean(axis=0) for start, stop in parts])


def weights(token_counts: Sequence[int], aggregation: Aggregation) -> NDArray[np.float64]:
    """What each chunk adds to a mean, in sum 1: by its tokens, the same for all, or all for the first."""
    counts = np.asarray(token_counts, dtype=np.float64)
    if aggregation is Aggregation.MEAN_UNWEIGHTED:
        counts = np.ones_like(counts)
    elif aggregation is Aggregation.FIRST:
        counts = np.eye(1, len(counts))[0]
    shares: NDArray[np.float64] = counts / counts.sum()
    return shares


def aggregate(
    vectors: Matrix, token_counts: Sequence[int], aggregation: Aggregation = Aggregation.MEAN, *, unit: bool = True
) -> Vector:
    """Vectors of several chunks (chunks, dimensions) → the input's (dimensions,).

        mean             v = Σ nᵢ·vᵢ / Σ nᵢ, nᵢ being the tokens of chunk i
        mean_unweighted  v = Σ vᵢ / chunks
        max              v_d = maxᵢ vᵢ_d, in each dimension d
        first            v = v₀

    and then v / ‖v‖₂, unless the model's vectors have lengths of their own (not `unit`). The weighted mean is that of
    OpenAI's cookbook ("Embedding texts that are longer than the model's maximum context length"); `first` is what
    ranking by a document's first passage comes to (FirstP, arXiv:1905.09217).
    """
    if aggregation is Aggregation.MAX:
        combined = vectors.max(axis=0)
    else:
        combined = (weights(token_counts, aggregation) @ vectors).astype(np.float32)
    result: Vector = normalize(combined[np.newaxis])[0] if unit else combined
    return result
