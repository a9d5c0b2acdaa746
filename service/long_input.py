"""What becomes of each input, short or long: the request's wishes and the model's settings, made one. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, TypeVar

from service.bundle import Bundle
from service.choices import Aggregation, LongInput, TruncationSide
from service.chunking import Window, split, split_late, truncate, whole
from service.errors import InputTooLong, InvalidInput, TooManyChunks
from service.settings import ModelSettings
from service.types import Chunk, Chunking, Encoding, Wishes

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Rules:
    """For all inputs of one request. `whole_window` is what the model reads at once, for late chunking."""

    policy: LongInput
    side: TruncationSide
    window: Window
    whole_window: int
    aggregation: Aggregation
    return_chunks: bool
    late: bool
    max_input_tokens: int | None
    max_chunks: int
    special_tokens: int  # that every row carries

    @property
    def only_first(self) -> bool:
        """Whether the vectors of all other chunks would be thrown away."""
        return self.aggregation is Aggregation.FIRST and not self.return_chunks


class Cut(NamedTuple):
    """One input, ready to run: `tokens` as in EmbedResult."""

    chunks: Sequence[Chunk]
    tokens: int
    truncated: bool = False
    late: bool = False

    @property
    def is_one_row(self) -> bool:
        """Whether its chunks are parts of one row."""
        return self.chunks[0].part is not None

    @property
    def rows(self) -> list[Sequence[int]]:
        """That are run for it."""
        return [self.chunks[0].row] if self.is_one_row else [chunk.row for chunk in self.chunks]

    @property
    def row_count(self) -> int:
        """How many those are."""
        return 1 if self.is_one_row else len(self.chunks)


def rules_of(
    request: Wishes, settings: ModelSettings, bundle: Bundle, prefix: Sequence[int], suffix: Sequence[int]
) -> Rules:
    """Raises InvalidInput for wishes that contradict each other, or that this model cannot fulfil."""
    policy = _policy(request, settings)
    late = policy is LongInput.CHUNK and _or(request.late, settings.late_chunking)
    if late and not bundle.mean_of_tokens:
        raise InvalidInput("Late chunking needs a model whose vector is the mean of its tokens' vectors.", "late")
    special_tokens = len(prefix) + len(suffix)
    limit = min(request.max_sequence_length or bundle.max_seq_length, bundle.max_seq_length)
    asked = request.chunking
    blank = (bundle.pad_token_id,) if bundle.static else ()
    overlap, boundary = 0, _or(asked.boundary, settings.chunk_boundary)
    if policy is LongInput.CHUNK:
        limit = _row_length(_or(asked.max_tokens, settings.chunk_max_tokens), special_tokens, bundle.max_seq_length)
        overlap = _overlap(asked, settings, limit - special_tokens)
    return Rules(
        policy,
        _or(request.truncation_side, settings.truncation_side),
        Window(limit - special_tokens, prefix, suffix, overlap, boundary, blank),
        bundle.max_seq_length - special_tokens,
        _or(asked.aggregation, settings.chunk_aggregation),
        _or(request.return_chunks, settings.return_chunks),
        late,
        settings.max_input_tokens,
        settings.max_chunks,
        special_tokens,
    )


def cut(encoding: Encoding, text: str, rules: Rules, room: int) -> Cut:
    """One input, as `room` chunks at most. Raises InputTooLong, TooManyChunks, InvalidInput."""
    length = len(encoding.ids)
    tokens = length + rules.special_tokens
    if rules.max_input_tokens is not None and tokens > rules.max_input_tokens:
        raise InputTooLong(rules.max_input_tokens, tokens)
    window = rules.window
    if length <= window.size:
        return Cut([whole(encoding, text, window)], tokens, late=rules.late)
    if encoding.prompt_length + window.overlap >= window.size:
        also = " with the overlap" if window.overlap else ""
        raise InvalidInput(f"The special tokens and the prompt (or title) alone{also} fill what may be read.", "input")
    if rules.policy is LongInput.REJECT:
        raise InputTooLong(window.size + rules.special_tokens, tokens)
    if rules.policy is LongInput.TRUNCATE:
        return Cut([truncate(encoding, text, window, rules.side)], tokens, truncated=True)
    late = rules.late and length <= rules.whole_window
    found = (split_late if late else split)(encoding, text, window)
    if rules.only_first:
        return Cut([next(found)], tokens, truncated=True, late=late)
    at_least = -(-length // window.size)
    chunks = list(islice(found, room + 1)) if at_least <= room else []
    if not 0 < len(chunks) <= room:
        raise TooManyChunks(rules.max_chunks)
    return Cut(chunks, tokens, late=late)


def _policy(request: Wishes, settings: ModelSettings) -> LongInput:
    """Who says how to chunk wants chunks."""
    wants_chunks = request.chunking != Chunking() or bool(request.late)
    if wants_chunks and request.long_input not in (None, LongInput.CHUNK):
        field = "late" if request.chunking == Chunking() else "chunking"
        raise InvalidInput(f"{field} is asked for, but another field says {request.long_input}.", field)
    return LongInput.CHUNK if wants_chunks else request.long_input or settings.long_input


def _row_length(asked: int | None, special_tokens: int, readable: int) -> int:
    if asked is None:
        return readable
    if not special_tokens < asked <= readable:
        raise InvalidInput(
            f"chunking.max_tokens is {asked}; it must be from {special_tokens + 1} to {readable}, which is what the "
            f"model reads, {special_tokens} special tokens counted.",
            "chunking",
        )
    return asked


def _overlap(asked: Chunking, settings: ModelSettings, window: int) -> int:
    """A setting made for longer chunks than a request asks for must not fail it."""
    if asked.overlap is None and asked.max_tokens is not None:
        return min(settings.chunk_overlap, window // 2)
    overlap = _or(asked.overlap, settings.chunk_overlap)
    if overlap >= window:
        raise InvalidInput(
            f"chunking.overlap is {overlap}; it must be less than the {window} tokens of text that a chunk holds.",
            "chunking",
        )
    return overlap


def _or(asked: Value | None, setting: Value) -> Value:
    return setting if asked is None else asked
