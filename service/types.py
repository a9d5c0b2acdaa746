"""The values that travel down the path: plain, immutable, without behaviour of their own.

Shapes beside arrays: `(rows, dimensions)`. Lengths are in tokens unless they say otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]  # (dimensions,)
Matrix = NDArray[np.float32]  # (rows, dimensions)


class LongInput(StrEnum):
    """What happens to an input longer than the model reads."""

    CHUNK = "chunk"
    TRUNCATE = "truncate"
    REJECT = "reject"


class TokenIds(StrEnum):
    """What integers in place of a text mean."""

    CL100K_BASE = "cl100k_base"
    NATIVE = "native"
    REJECT = "reject"


class TruncationSide(StrEnum):
    """Which end of an over-long input is cut off."""

    LEFT = "left"
    RIGHT = "right"


class OutputDtype(StrEnum):
    """The numbers that a vector is written in; `service.postprocess.quantize` has the scales."""

    FLOAT = "float"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"
    UBINARY = "ubinary"


@dataclass(frozen=True, slots=True)
class Encoding:
    """One tokenised input, without special tokens.

    `ids[:prompt_length]` are the prompt's, the rest are the text's. `offsets[i]` is the half-open range of
    code points in the text that token i covers. Both are left out (0, empty) where all ids fit one window,
    and offsets where the input came as token ids.
    """

    ids: Sequence[int]
    prompt_length: int = 0
    offsets: Sequence[tuple[int, int]] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A window of an Encoding, ready to run: special tokens and prompt included.

    `weight` is the number of the text's own tokens in it, by which chunks are averaged.
    """

    ids: Sequence[int]
    weight: int


@dataclass(frozen=True, slots=True)
class Input:
    """One thing to embed: a text, or token ids in the vocabulary the model's settings name."""

    content: str | Sequence[int]
    prompt: str = ""


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """What every dialect turns its request into. None means: as the model says.

    `max_input_tokens` is the length, special tokens included, that `long_input` looks at instead of the model's
    own limit; it can only be shorter.
    """

    inputs: Sequence[Input]
    dimensions: int | None = None
    long_input: LongInput | None = None
    truncation_side: TruncationSide = TruncationSide.RIGHT
    max_input_tokens: int | None = None
    normalize: bool | None = None


@dataclass(frozen=True, slots=True)
class EmbedResult:
    """What every dialect turns into its response: `vectors` (inputs, dimensions), the rest one per input.

    `tokens` counts what the model would read were its window endless: prompt, text and one set of special tokens.
    """

    vectors: Matrix
    tokens: Sequence[int]
    truncated: Sequence[bool]
    chunks: int


@dataclass(frozen=True, slots=True)
class TokenResult:
    """As EmbedResult, with one vector a token, special tokens included: `states[i]` is (tokens, hidden)."""

    states: Sequence[Matrix]
    tokens: Sequence[int]
    truncated: Sequence[bool]
    chunks: int
