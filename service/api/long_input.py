"""Over-long inputs, in words that every dialect has: this project's own fields, and what they add to replies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter, not_
from typing import Annotated, Any

from pydantic import AliasChoices, AliasGenerator, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from service.api.wire_model import WireModel
from service.choices import Aggregation, Boundary, LongInput
from service.errors import InvalidInput
from service.types import Chunking, EmbedRequest, EmbedResult, Matrix


def _whole(value: object) -> object:
    """Google's SDKs write integers as 128.0 at times."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_Count = Annotated[int, BeforeValidator(_whole), Field(strict=True)]


class ChunkingFields(WireModel):
    """How a long input is cut and put together again; what is left out is as the model's settings say.

    Unlike everywhere else a field that is not known is refused: nobody's SDK sends any here.
    """

    model_config = ConfigDict(
        title="Chunking",
        extra="forbid",
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(name, to_camel(name))),
    )

    max_tokens: Annotated[_Count, Field(ge=1)] | None = Field(
        None, description="Length of a chunk, special tokens and prompt counted; at most what the model reads."
    )
    overlap: Annotated[_Count, Field(ge=0)] | None = Field(
        None, description="Tokens that a chunk may share with the one before it; less than it holds."
    )
    boundary: Boundary | None = Field(None, description="The best place that a cut looks for.")
    aggregation: Aggregation | None = Field(
        None, description="How the chunks' vectors become the input's: a mean weighted by their tokens, a plain mean, "
        "the maximum in each dimension, or the first one alone; L2-normalised."
    )  # fmt: skip


class LongInputFields(WireModel):
    """This server's own fields, beside whatever words a dialect has for some of it."""

    long_input: LongInput | None = Field(
        None, description="What happens to an input that is too long: chunked, truncated, or rejected."
    )
    chunking: ChunkingFields | None = Field(None, description="How it is chunked, which this asks for, too.")
    return_chunks: bool | None = Field(
        None, description="Add to each item its `chunks`, with their places in the text and their vectors."
    )
    late: bool | None = Field(
        None, description="Late chunking: read an input whole where it fits the model, and pool its chunks after that."
    )


_FIELDS = frozenset(LongInputFields.model_fields)


class ChunkObject(WireModel):
    """`text[start:end]`, counted in Unicode code points; null where the input came as token ids.

    `token_count` counts neither special tokens nor the prompt. `embedding` is written as the item's own.
    """

    index: int
    start: int | None
    end: int | None
    token_count: int
    embedding: list[float] | str


class ChunkedItem(WireModel):
    """What an item has more when it was asked for; `late` is false where the input was too long for it."""

    chunks: list[ChunkObject] | None = None
    late: bool | None = None


def with_wishes(request: EmbedRequest, fields: LongInputFields) -> EmbedRequest:
    """The request, which has what the dialect's own words say, with what these fields say.

    Raises InvalidInput where they contradict each other.
    """
    if fields.model_fields_set.isdisjoint(_FIELDS):
        return request
    asked = fields.chunking
    return request._replace(
        long_input=_agreed(request.long_input, fields.long_input),
        chunking=Chunking(asked.max_tokens, asked.overlap, asked.boundary, asked.aggregation) if asked else Chunking(),
        return_chunks=fields.return_chunks,
        late=fields.late,
    )


def without_chunks(request: EmbedRequest) -> EmbedRequest:
    """For replies that are nothing but vectors: the model's setting does not hold. Raises InvalidInput for the wish."""
    if request.return_chunks:
        raise InvalidInput(
            "This reply has no room for chunks; those of embeddings are returned by /v1/embeddings.", "return_chunks"
        )
    return request._replace(return_chunks=False)


def _agreed(own: LongInput | None, ours: LongInput | None) -> LongInput | None:
    if own is not None and ours is not None and own is not ours:
        raise InvalidInput(f"long_input is {ours}, but another field says {own}; send one of them.", "long_input")
    return ours if own is None else own


def long_input_of(truncate: bool | None) -> LongInput | None:
    """True cuts, False refuses, None leaves it to the model's setting."""
    if truncate is None:
        return None
    return LongInput.TRUNCATE if truncate else LongInput.REJECT


def matrices_of(result: EmbedResult) -> list[Matrix]:
    """The inputs' vectors, and then the chunks' of each input, where they are asked for."""
    return [result.vectors, *map(attrgetter("vectors"), result.chunks)]


def chunk_fields(result: EmbedResult, index: int, encoded: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """`ChunkedItem` of one input, as far as it was asked for; `encoded` are the rows of each one's
    chunks."""
    fields: dict[str, Any] = {}
    if result.chunks:
        chunks = result.chunks[index]
        rows = zip(chunks.spans, chunks.token_counts, encoded[index], strict=True)
        fields["chunks"] = [
            {
                "index": i,
                "start": span[0] if span else None,
                "end": span[1] if span else None,
                "token_count": count,
                "embedding": row,
            }
            for i, (span, count, row) in enumerate(rows)
        ]
    if result.late:
        fields["late"] = result.late[index]
    return fields


def long_input_headers(truncated: Iterable[bool], late: Iterable[bool] = ()) -> dict[str, str]:
    """How many inputs were cut, and how many were too long for late chunking, where any were."""
    cut, too_long = sum(truncated), sum(map(not_, late))
    headers = {"x-truncated-inputs": str(cut)} if cut else {}
    return headers | {"x-late-fallback-inputs": str(too_long)} if too_long else headers
