"""Jina's dialect, where it is not OpenAI's: /v1/multi-vector, for models of vectors of tokens.

Shapes: Jina's API as its users call it (jina-colbert-v2): `input_type` says what kind the texts are, and each of `data`
has `embeddings`, a vector for each token. Errors are OpenAI's, as on the route that the two share,
but for those of fields: OpenAI's words link to its own reference, which has no such route.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from service.api import openai
from service.api.http import MAX_ITEMS, Call, Operation, Reply, json_reply
from service.api.long_input import LongInputFields, long_input_headers, with_wishes, without_chunks
from service.api.wire import EmbeddingType, as_type, in_turns
from service.api.wire_model import WireModel
from service.choices import OutputDtype
from service.errors import EmptyInput
from service.postprocess import check_packable
from service.types import EmbedRequest, Input

NAME = "jina"
ERROR = openai.ERROR
error_body = openai.error_body_elsewhere


class _Schema(WireModel):
    """Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class TextObject(_Schema):
    """Jina's other way to write a text."""

    model_config = ConfigDict(extra="forbid", title="JinaText")

    text: str


_Texts = Annotated[list[str | TextObject], Field(max_length=MAX_ITEMS, fail_fast=True)]


class MultiVectorRequest(LongInputFields, _Schema):
    """Texts of one kind: queries are filled up to the length that the model's authors say, documents are not."""

    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    input: str | TextObject | _Texts
    input_type: Literal["query", "document"] = "document"
    embedding_type: (
        EmbeddingType | Annotated[list[EmbeddingType], Field(min_length=1, max_length=1, fail_fast=True)]
    ) = Field("float", description="One, also in a list; base64 is of little-endian float32.")
    dimensions: int | None = Field(None, ge=1)


class MultiVectorObject(WireModel):
    """One input's vectors, each as numbers or as base64."""

    object: Literal["embeddings"]
    index: int
    embeddings: list[list[float]] | list[str]


class MultiVectorResponse(WireModel):
    """`data` is in the order of the inputs; tokens that fill queries up are not counted."""

    object: Literal["list"]
    model: str
    data: list[MultiVectorObject]
    usage: openai.Usage


async def multi_vector(call: Call) -> Reply:
    """POST /v1/multi-vector."""
    request = call.parse(MultiVectorRequest)
    model = call.find_model(request.model, "tokens")
    embedder = model.late_embedder
    kind = request.embedding_type if isinstance(request.embedding_type, str) else request.embedding_type[0]
    if kind != "base64":
        check_packable(OutputDtype(kind), request.dimensions or model.bundle.dimensions)
    prompt = embedder.role_prompt(request.input_type)
    inputs = [Input(text, prompt) for text in _texts(call, request)]
    wanted = without_chunks(with_wishes(EmbedRequest(inputs, dimensions=request.dimensions), request))
    result = await embedder.embed(wanted, request.input_type, call.deadline)
    call.count(result)
    tokens = sum(result.tokens)
    body = {
        "object": "list",
        "model": model.name,
        "data": [
            {"object": "embeddings", "index": i, "embeddings": rows}
            for i, rows in enumerate(await in_turns(result.states, partial(as_type, kind)))
        ],
        "usage": {"total_tokens": tokens, "prompt_tokens": tokens},
    }
    return json_reply(body, long_input_headers(result.truncated))


def _texts(call: Call, request: MultiVectorRequest) -> list[str]:
    """Raises EmptyInput, TooManyInputs."""
    many = request.input if isinstance(request.input, list) else [request.input]
    if not many:
        raise EmptyInput("input is empty", "input")
    call.check_count(len(many), "input")
    return [one if isinstance(one, str) else one.text for one in many]


def owns(path: str) -> bool:
    """Paths that begin as its route does."""
    return path.startswith("/v1/multi-vector")


OPERATIONS = (
    Operation(
        "POST",
        ("/v1/multi-vector",),
        multi_vector,
        "A vector for each token (Jina)",
        MultiVectorRequest,
        MultiVectorResponse,
    ),
)
