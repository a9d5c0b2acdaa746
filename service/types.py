"""The values that travel down the path: plain, immutable, without behaviour of their own.

Named tuples, because several are made for every request and a frozen dataclass takes four times as long to make.

Shapes beside arrays: `(rows, dimensions)`. Lengths are in tokens unless they say otherwise.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from service.choices import Aggregation, Boundary, LongInput, TruncationSide

Vector = NDArray[np.float32]  # (dimensions,)
Matrix = NDArray[np.float32]  # (rows, dimensions)


class Encoding(NamedTuple):
    """One tokenised input, without special tokens.

    `ids[:prompt_length]` are the prompt's, the rest are the text's. Token i covers the code points
    `starts[i]:ends[i]` of the text. `prompt_length` and the offsets are left out (0, empty) where all ids fit one
    window, and the offsets where the input came as token ids. `pooled_from` is the place in its rows, special tokens
    counted, before which pooling leaves out what there is: the prompt of models that do so, else 0.
    """

    ids: Sequence[int]
    prompt_length: int = 0
    starts: Sequence[int] = ()
    ends: Sequence[int] = ()
    pooled_from: int = 0


Span = tuple[int, int]
"""A half-open range, of code points in a text or of positions in a row."""


if TYPE_CHECKING:
    _Ids = array[int]
else:
    _Ids = array


class TwoPartRow(_Ids):
    """Token ids of a row whose first `split` are another part than the rest: the prompt, where pooling leaves it out,
    the first text of a pair, or a query before what fills it up. Any other row is a plain sequence of ids."""

    __slots__ = ("split",)
    split: int

    def __new__(cls, ids: Sequence[int], split: int) -> TwoPartRow:
        """4 bytes an id."""
        row = cast(TwoPartRow, super().__new__(cls, "i", ids))
        row.split = split
        return row


class PairTemplate(NamedTuple):
    """The special tokens of a pair of texts: before the first, between the two, behind the second.

    `has_types` says that all tokens from the second text on are of another type than those before it.
    """

    prefix: tuple[int, ...]
    middle: tuple[int, ...]
    suffix: tuple[int, ...]
    has_types: bool


class Chunk(NamedTuple):
    """A window of an Encoding: `token_count` of the text's own tokens, which stand for `text[slice(*span)]`.

    `span` is None where the input came as token ids. `row` is the window ready to run, special tokens and prompt
    included; in a late chunk it is the row of the whole input, of which the chunk's vector is made from `part` alone.
    """

    row: Sequence[int]
    token_count: int
    span: Span | None
    part: Span | None = None


class Input(NamedTuple):
    """One thing to embed: a text, or token ids in the vocabulary the model's settings name."""

    content: str | Sequence[int]
    prompt: str = ""


class Chunking(NamedTuple):
    """How an input is cut into chunks and put together again. None: as the model's settings say.

    `max_tokens` is the length of a row, special tokens and prompt included; an input longer than that is cut.
    `overlap` is how many of its tokens a chunk may share with the one before it.
    """

    max_tokens: int | None = None
    overlap: int | None = None
    boundary: Boundary | None = None
    aggregation: Aggregation | None = None


class Wishes(NamedTuple):
    """What `EmbedRequest` says about inputs that are too long, by the same names."""

    long_input: LongInput | None
    truncation_side: TruncationSide | None
    max_sequence_length: int | None
    chunking: Chunking
    return_chunks: bool | None
    late: bool | None


class EmbedRequest(NamedTuple):
    """What every dialect turns its request into. None means: as the model says.

    `max_sequence_length` is the length, special tokens included, beyond which an input is cut off or refused; it can
    only be shorter than the model's own. `return_chunks` asks for the chunks' vectors beside the input's, and `late`
    for late chunking: chunks of an input that the model can read whole are pooled after that reading.
    """

    inputs: Sequence[Input]
    dimensions: int | None = None
    long_input: LongInput | None = None
    truncation_side: TruncationSide | None = None
    max_sequence_length: int | None = None
    chunking: Chunking = Chunking()
    return_chunks: bool | None = None
    late: bool | None = None
    normalize: bool | None = None

    @property
    def wishes(self) -> Wishes:
        """Of which most requests have the same: none."""
        return Wishes(
            self.long_input,
            self.truncation_side,
            self.max_sequence_length,
            self.chunking,
            self.return_chunks,
            self.late,
        )


class Pair(NamedTuple):
    """One thing to score: two texts, of which the first is the query, or a text alone."""

    first: str
    second: str | None = None


class ScoreRequest(NamedTuple):
    """As EmbedRequest, by the same names. `max_second_tokens` of a pair's second text are read at most, and
    `max_windows` windows of it; what is behind them is cut off."""

    inputs: Sequence[Pair]
    long_input: LongInput | None = None
    truncation_side: TruncationSide | None = None
    chunking: Chunking = Chunking()
    max_second_tokens: int | None = None
    max_windows: int | None = None

    @property
    def wishes(self) -> Wishes:
        """Scores have no chunks to return."""
        return Wishes(self.long_input, self.truncation_side, None, self.chunking, False, None)


class Chunks(NamedTuple):
    """One input's chunks: `vectors` (chunks, dimensions), and for each what `Chunk` says of it."""

    spans: Sequence[Span | None]
    token_counts: Sequence[int]
    vectors: Matrix


class EmbedResult(NamedTuple):
    """What every dialect turns into its response: `vectors` (inputs, dimensions), the rest one per input.

    `tokens` counts what the model would read were its window endless: prompt, text and one set of special tokens.
    `truncated` says that a part of the text is in no vector. `chunks` is empty unless they were asked for, and `late`
    unless late chunking was; where it says False, the input was too long for it and was chunked as usual.
    `rows` are the chunks of the whole request; `computed_tokens` what was run for it, as `batcher.Outcome` counts.
    """

    vectors: Matrix
    tokens: Sequence[int]
    truncated: Sequence[bool]
    rows: int
    computed_tokens: int
    chunks: Sequence[Chunks] = ()
    late: Sequence[bool] = ()


class ScoreResult(NamedTuple):
    """As EmbedResult, with `logits` (inputs, labels). A query counts in the tokens of each of its pairs."""

    logits: Matrix
    tokens: Sequence[int]
    truncated: Sequence[bool]
    rows: int
    computed_tokens: int


class SparseResult(NamedTuple):
    """As EmbedResult, with one array of `service.sparse_vectors.SPARSE` an input."""

    vectors: Sequence[NDArray[Any]]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    rows: int
    computed_tokens: int


class TokenResult(NamedTuple):
    """As EmbedResult, with one vector a token, special tokens included: `states[i]` is (tokens, hidden)."""

    states: Sequence[Matrix]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    rows: int
    computed_tokens: int
