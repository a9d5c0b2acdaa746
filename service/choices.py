"""What settings and requests may choose from. A file of its own, as `types` imports numpy, which who reads settings
need not: `embedserve health` asks every few seconds."""

from __future__ import annotations

from enum import StrEnum


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


class Boundary(StrEnum):
    """The best place that a cut between two chunks looks for; where there is none, the next lesser one is taken."""

    PARAGRAPH = "paragraph"
    SENTENCE = "sentence"
    WORD = "word"
    TOKEN = "token"


class Aggregation(StrEnum):
    """How the vectors of an input's chunks become its own; `service.chunking.aggregate` has the formulas."""

    MEAN = "mean"
    MEAN_UNWEIGHTED = "mean_unweighted"
    MAX = "max"
    FIRST = "first"


class OutputDtype(StrEnum):
    """The numbers that a vector is written in; `service.postprocess.quantize` has the scales."""

    FLOAT = "float"
    INT8 = "int8"
    UINT8 = "uint8"
    BINARY = "binary"
    UBINARY = "ubinary"
