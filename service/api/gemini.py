"""The Gemini Developer API's dialect: :embedContent and :batchEmbedContents, and the models' descriptions.

Shapes: google.ai.generativelanguage v1beta.
"""

from __future__ import annotations

from typing import Any

from service.api.errors import Status
from service.api.google import (
    ERROR,
    BatchEmbedContentsRequest,
    ContentEmbedding,
    EmbedContentRequest,
    Embedded,
    UsageMetadata,
    content_embedding,
    embed_contents,
    find_model,
    headers_of,
    message_of,
    status_body,
)
from service.api.http import Call, Operation, Reply, json_reply
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.errors import EmbedserveError, InvalidInput, ModelNotFound, TooManyInputs
from service.model import Model

__all__ = ["ERROR", "NAME", "OPERATIONS", "error_body", "owns"]

NAME = "gemini"
MAX_REQUESTS = 100
_FIRST_TASK = 1
_PREFIX = "models/"


class GeminiEmbedContentResponse(WireModel):
    """One vector."""

    embedding: ContentEmbedding
    usageMetadata: UsageMetadata


class GeminiBatchEmbedContentsResponse(WireModel):
    """`embeddings` is in the order of the requests."""

    embeddings: list[ContentEmbedding]
    usageMetadata: UsageMetadata


class GeminiModel(WireModel):
    """One served model."""

    name: str
    version: str
    displayName: str
    inputTokenLimit: int
    supportedGenerationMethods: list[str]


class GeminiModelList(WireModel):
    """All served models, on one page."""

    models: list[GeminiModel]


async def embed_content(call: Call) -> Reply:
    """POST models/{model}:embedContent."""
    model = _find(call, call.path_params["model"])
    request = call.parse(EmbedContentRequest)
    (embedded,) = await _embed(call, model, [request])
    return _reply({"embedding": content_embedding(embedded)}, [embedded])


async def batch_embed_contents(call: Call) -> Reply:
    """POST models/{model}:batchEmbedContents."""
    model = _find(call, call.path_params["model"])
    requests = call.parse(BatchEmbedContentsRequest).requests
    if len(requests) > MAX_REQUESTS:
        raise TooManyInputs(MAX_REQUESTS, len(requests), "requests")
    embedded = await _embed(call, model, requests)
    return _reply({"embeddings": [content_embedding(one) for one in embedded]}, embedded)


async def _embed(call: Call, model: Model, requests: list[EmbedContentRequest]) -> list[Embedded]:
    for request in requests:
        if request.model and _find(call, request.model) is not model:
            raise InvalidInput("The model of every request must be the one that the path names.", "model")
    return await embed_contents(call, model, requests, _FIRST_TASK)


def _reply(body: dict[str, Any], embedded: list[Embedded]) -> Reply:
    """This API has no word for a text that was cut, so a header has it."""
    body["usageMetadata"] = {"promptTokenCount": sum(one.tokens for one in embedded)}
    return json_reply(body, headers_of(embedded))


async def list_models(call: Call) -> Reply:
    """GET models."""
    return Reply(to_json({"models": [_describe(model) for model in call.service.registry.models()]}))


async def retrieve_model(call: Call) -> Reply:
    """GET models/{model}."""
    return Reply(to_json(_describe(_find(call, call.path_params["model"]))))


def _describe(model: Model) -> dict[str, object]:
    return {
        "name": f"{_PREFIX}{model.name}",
        "version": "001",
        "displayName": model.name,
        "inputTokenLimit": model.bundle.max_seq_length,
        "supportedGenerationMethods": ["embedContent"] if model.bundle.task == "embedding" else [],
    }


def _find(call: Call, name: str) -> Model:
    bare = name.removeprefix(_PREFIX)
    return find_model(call, bare, f"{_PREFIX}{bare}")


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """google.rpc.Status."""
    return status_body(error, status, _message(error))


def _message(error: EmbedserveError) -> str:
    match error:
        case TooManyInputs():
            return f"* BatchEmbedContentsRequest.requests: at most {error.limit} requests can be in one batch"
        case ModelNotFound():
            return (
                f"{error.name} is not found for API version v1beta, or is not supported for embedContent. Call "
                "ListModels to see the list of available models and their supported methods."
            )
    return message_of(error)


def owns(path: str) -> bool:
    """No other API has this version; what /v1 has of this one are exact paths."""
    return path.startswith("/v1beta/")


def _methods(method: str) -> tuple[str, ...]:
    return tuple(f"{version}/models/{{model:path}}:{method}" for version in ("/v1beta", "/v1"))


OPERATIONS = (
    Operation(
        "POST",
        _methods("embedContent"),
        embed_content,
        "Embed a content",
        EmbedContentRequest,
        GeminiEmbedContentResponse,
    ),
    Operation(
        "POST",
        _methods("batchEmbedContents"),
        batch_embed_contents,
        "Embed contents",
        BatchEmbedContentsRequest,
        GeminiBatchEmbedContentsResponse,
    ),
    Operation("GET", ("/v1beta/models",), list_models, "List the served models (Gemini)", response=GeminiModelList),
    Operation(
        "GET",
        ("/v1beta/models/{model:path}",),
        retrieve_model,
        "Look one served model up (Gemini)",
        response=GeminiModel,
    ),
)
