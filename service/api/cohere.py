"""Cohere's dialect: /v2/embed, and /v1/embed, which its SDK's older client uses; /v2/rerank. (/v1/rerank is not only
Cohere's: `rerank`.)

Shapes: Cohere's API reference and the models of its Python SDK (cohere 7.3), error messages as its servers send them.
Different on purpose: where `truncate` is absent, the model's setting for long inputs rules (Cohere: END), unless
`max_tokens` asks for fewer; input_type may be left out; this server embeds no images.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, FailFast, Field
from pydantic_core import PydanticCustomError

from service.api.errors import Status
from service.api.http import MAX_ITEMS, Call, Operation, Reply, json_reply
from service.api.long_input import ChunkObject, LongInputFields, chunk_fields, long_input_headers, with_wishes
from service.api.ranking import Limits, RankFields, Ranking, rank_documents
from service.api.wire import EmbeddingType, as_type, rows_in_turns, to_json
from service.api.wire_model import WireModel
from service.choices import LongInput, OutputDtype, TruncationSide
from service.errors import (
    DimensionsUnsupported,
    EmbedserveError,
    InputTooLong,
    InvalidInput,
    ModelNotFound,
    OverRateLimit,
    RateLimited,
    TooManyInputs,
    Unauthenticated,
)
from service.model import Model
from service.postprocess import check_packable
from service.prompts import prompt_name_for_input_type
from service.types import EmbedRequest, EmbedResult, Input, Matrix

NAME = "cohere"
MAX_TEXTS = 96
_DOCUMENTS_A_SEARCH_UNIT = 100

_InputType = Literal["search_document", "search_query", "classification", "clustering"]

# truncate → what happens to an over-long text, and at which of its ends.
_TRUNCATE = {
    "NONE": (LongInput.REJECT, TruncationSide.RIGHT),
    "START": (LongInput.TRUNCATE, TruncationSide.LEFT),
    "END": (LongInput.TRUNCATE, TruncationSide.RIGHT),
}


def _no_images(value: object) -> object:
    """Said plainly, as these are right requests to Cohere."""
    if value in ("image", "image_url") or (isinstance(value, list) and value):
        raise PydanticCustomError("images", "this server embeds texts, not images")
    return value


class _Schema(WireModel):
    """Unknown fields are ignored, among them `priority`: every request waits its turn."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TextContent(_Schema):
    """A part of an input; its parts are joined by line breaks."""

    type: Annotated[Literal["text"], BeforeValidator(_no_images)]
    text: str


class EmbedInput(_Schema):
    """One thing to embed."""

    content: Annotated[list[TextContent], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)


def _needs(name: str, not_with: str) -> dict[str, Any]:
    return {"required": [name], "properties": {name: {"type": "array"}, not_with: {"type": "null"}}}


class CohereEmbedRequest(LongInputFields, _Schema):
    """Either `texts` or `inputs`."""

    model_config = ConfigDict(json_schema_extra={"oneOf": [_needs("texts", "inputs"), _needs("inputs", "texts")]})

    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    texts: Annotated[list[str], Field(fail_fast=True)] | None = Field(None, min_length=1)
    inputs: Annotated[list[EmbedInput], Field(fail_fast=True)] | None = Field(None, min_length=1, max_length=MAX_ITEMS)
    images: Annotated[Annotated[list[Any], Field(max_length=0, fail_fast=True)] | None, BeforeValidator(_no_images)] = (
        None
    )
    input_type: Annotated[_InputType | None, BeforeValidator(_no_images)] = Field(
        None, description="Chooses the model's prompt; absent, its default one."
    )
    embedding_types: Annotated[list[EmbeddingType], Field(fail_fast=True)] | None = Field(
        None, description="float where none is named."
    )
    output_dimension: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(
        None, ge=1, description="Tokens of each text that are embedded, special ones counted; the rest is cut off."
    )
    truncate: Literal["NONE", "START", "END"] | None = Field(
        None, description="What is cut off an over-long text; NONE refuses it; absent, the model's setting rules."
    )


class ByType(WireModel):
    """One list per type that was asked for, in the order of the texts; base64 is of little-endian float32."""

    model_config = ConfigDict(title="CohereEmbeddingsByType")

    float_: list[list[float]] | None = Field(None, alias="float")
    int8: list[list[int]] | None = None
    uint8: list[list[int]] | None = None
    binary: list[list[int]] | None = None
    ubinary: list[list[int]] | None = None
    base64: list[str] | None = None


class ApiVersion(WireModel):
    """That of the path."""

    version: Literal["1", "2"]


class BilledUnits(WireModel):
    """Tokens as the served model counts them."""

    input_tokens: int


class Meta(WireModel):
    """Beside the vectors."""

    api_version: ApiVersion
    billed_units: BilledUnits


class EmbedResponse(WireModel):
    """`chunks` and `late`, where they were asked for, have one element a text, in their order. The embeddings of chunks
    are of the first type that was asked for."""

    id: str
    texts: list[str]
    meta: Meta
    chunks: list[list[ChunkObject]] | None = None
    late: list[bool] | None = None


class EmbedByTypeResponse(EmbedResponse):
    """Version 2's only reply, and version 1's where `embedding_types` are named."""

    embeddings: ByType
    response_type: Literal["embeddings_by_type"]


class EmbedV1Response(EmbedResponse):
    """Without `embedding_types` the vectors stand in one list."""

    embeddings: list[list[float]] | ByType
    response_type: Literal["embeddings_floats", "embeddings_by_type"]


class CohereRerankRequest(RankFields):
    """Documents are texts; objects with a `text` are taken as well. `return_documents` has no effect in version 2."""

    max_tokens_per_doc: int | None = Field(
        None, ge=1, description="Tokens of each document that are read; absent, all of them (Cohere: 4096)."
    )


class CohereRanked(WireModel):
    """`index` is the document's place in the request; the best come first."""

    index: int
    relevance_score: float


class SearchUnits(WireModel):
    """A query with up to 100 documents."""

    search_units: int


class InputTokens(WireModel):
    """That the model read, the query once for each document."""

    input_tokens: int


class RerankMeta(WireModel):
    """Beside the results."""

    model_config = ConfigDict(title="CohereRerankMeta")

    api_version: ApiVersion
    billed_units: SearchUnits
    tokens: InputTokens


class CohereRerankResponse(WireModel):
    """The best first, as many as `top_n` says."""

    id: str
    results: list[CohereRanked]
    meta: RerankMeta


class CohereError(WireModel):
    """Cohere's error body."""

    message: str


ERROR = CohereError


async def embed_v2(call: Call) -> Reply:
    """POST /v2/embed."""
    return await _embed(call, "2")


async def embed_v1(call: Call) -> Reply:
    """POST /v1/embed."""
    return await _embed(call, "1")


async def _embed(call: Call, version: str) -> Reply:
    request = call.parse(CohereEmbedRequest)
    model = call.find_model(request.model, "embedding")
    types = request.embedding_types or ["float"]
    for one in types:
        if one != "base64":
            check_packable(OutputDtype(one), request.output_dimension or model.bundle.dimensions)
    texts = _texts(request)
    result = await model.embedder.embed(_for_pipeline(request, texts, model), call.deadline)
    call.count(result)
    plain = version == "1" and not request.embedding_types
    by_type = await _by_type(result.vectors, types)
    body = {
        "id": str(uuid.uuid4()),
        "embeddings": by_type["float"] if plain else by_type,
        "texts": texts,
        "meta": _meta(result, version),
        "response_type": "embeddings_floats" if plain else "embeddings_by_type",
        **await _chunks(result, types[0]),
    }
    return json_reply(body, long_input_headers(result.truncated, result.late))


async def rerank(call: Call) -> Reply:
    """POST /v2/rerank."""
    request = call.parse(CohereRerankRequest)
    ranking = await rank_documents(call, request, Limits(max_tokens=request.max_tokens_per_doc))
    results = [{"index": one.place, "relevance_score": one.score} for one in ranking.best]
    body = {"id": str(uuid.uuid4()), "results": results, "meta": rerank_meta(ranking, "2")}
    return Reply(to_json(body), headers=long_input_headers(ranking.result.truncated))


def rerank_meta(ranking: Ranking, version: str) -> dict[str, Any]:
    """`RerankMeta`."""
    units = ceil(len(ranking.result.tokens) / _DOCUMENTS_A_SEARCH_UNIT)
    billed = {"billed_units": {"search_units": units}, "tokens": {"input_tokens": ranking.tokens}}
    return {"api_version": {"version": version}, **billed}


def _texts(request: CohereEmbedRequest) -> list[str]:
    """Raises InvalidInput, TooManyInputs."""
    if (request.texts is None) == (request.inputs is None):
        raise InvalidInput("exactly one of texts and inputs must be provided", "texts")
    if request.texts is not None:
        texts = request.texts
    else:
        texts = ["\n".join(part.text for part in one.content) for one in request.inputs or ()]
    if len(texts) > MAX_TEXTS:
        raise TooManyInputs(MAX_TEXTS, len(texts), "texts")
    return texts


def _for_pipeline(request: CohereEmbedRequest, texts: list[str], model: Model) -> EmbedRequest:
    word = request.input_type
    prompt = model.embedder.prompt(prompt_name_for_input_type(word, model.bundle.prompts) if word else None)
    # Who asks for fewer tokens than the model reads wants the rest cut off, not read in windows.
    implied = "END" if request.max_tokens and request.long_input is not LongInput.REJECT else None
    truncate = request.truncate or implied
    long_input, side = _TRUNCATE[truncate] if truncate else (None, None)
    own = EmbedRequest(
        [Input(text, prompt) for text in texts],
        dimensions=request.output_dimension,
        long_input=long_input,
        truncation_side=side,
        max_sequence_length=request.max_tokens,
        normalize=True,
    )
    return with_wishes(own, request)


async def _by_type(vectors: Matrix, types: list[EmbeddingType]) -> dict[str, Sequence[Any]]:
    return {one: (await rows_in_turns([vectors], partial(as_type, one)))[0] for one in dict.fromkeys(types)}


async def _chunks(result: EmbedResult, kind: EmbeddingType) -> dict[str, Any]:
    """Texts have no objects of their own here, so that theirs are taken apart: one list for each key."""
    rows = await rows_in_turns([one.vectors for one in result.chunks], partial(as_type, kind))
    items = [chunk_fields(result, i, rows) for i in range(len(result.tokens))]
    return {key: [item[key] for item in items] for key in items[0]}


def _meta(result: EmbedResult, version: str) -> dict[str, Any]:
    return {"api_version": {"version": version}, "billed_units": {"input_tokens": sum(result.tokens)}}


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """A sentence."""
    return {"message": _message(error)}


def _message(error: EmbedserveError) -> str:
    match error:
        case TooManyInputs():
            what = "documents" if error.param == "documents" else "texts"
            return f"invalid request: total number of {what} must be at most {error.limit} - received {error.actual}"
        case InputTooLong():
            return f"too many tokens: a text must have at most {error.limit} tokens - received {error.actual}"
        case DimensionsUnsupported():
            sizes = ", ".join(map(str, error.allowed))
            return f"invalid request: output_dimension must be one of {sizes} - received {error.requested}"
        case InvalidInput():
            return f"invalid request: {error.message}"
        case ModelNotFound():
            return (
                f"model '{error.name}' not found, make sure the correct model ID was used and that you have access to "
                "the model."
            )
        case RateLimited(kind="requests"):
            return (
                f"You are past the per minute request limit of {error.limit}, please wait and try again later: in "
                f"{error.wait}."
            )
        case RateLimited():
            return f"token rate limit exceeded, limit is {error.limit} tokens per minute: try again in {error.wait}"
        case OverRateLimit():
            return f"token rate limit exceeded, limit is {error.limit} tokens per minute: {error.message}"
        case Unauthenticated():
            return "no api key supplied" if error.masked_key is None else "invalid api token"
    return str(error)


def owns(path: str) -> bool:
    """What is left of /v2, and the words of version 1 that nobody else has."""
    return path.startswith(("/v2/", "/v1/embed-jobs", "/v1/tokenize", "/v1/detokenize", "/v1/check-api-key"))


OPERATIONS = (
    Operation("POST", ("/v2/embed",), embed_v2, "Embed texts (Cohere)", CohereEmbedRequest, EmbedByTypeResponse),
    Operation("POST", ("/v1/embed",), embed_v1, "Embed texts (Cohere, version 1)", CohereEmbedRequest, EmbedV1Response),
    Operation(
        "POST",
        ("/v2/rerank",),
        rerank,
        "Rank documents by a query (Cohere)",
        CohereRerankRequest,
        CohereRerankResponse,
    ),
)
