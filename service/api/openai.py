"""OpenAI's dialect: /v1/embeddings and /v1/models.

Shapes: the OpenAPI document of OpenAI's API (openai/openai-openapi), error bodies as its servers send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from service.api.errors import Status
from service.api.http import Call, Operation, Reply
from service.api.wire import as_base64, as_numbers, to_json
from service.errors import (
    DimensionsUnsupported,
    EmbedserveError,
    InputTooLong,
    InvalidInput,
    MalformedBody,
    Overloaded,
    RequestError,
    TooManyInputs,
    Unauthenticated,
    Unavailable,
)
from service.registry import Model
from service.types import EmbedRequest, EmbedResult, Input

NAME = "openai"
_REFERENCE = "Please check the API reference: https://platform.openai.com/docs/api-reference."
_MAX_TOKEN_ID = 2**63 - 1

_INPUT_SCHEMA = {
    "description": "A text, several texts, the token ids of one text, or those of several.",
    "oneOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 2048},
        {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 300_000},
        {
            "type": "array",
            "items": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            "minItems": 1,
            "maxItems": 2048,
        },
    ],
}


class EmbeddingsRequest(BaseModel):
    """Unknown fields are ignored and null means the default, as clients rely on both."""

    model_config = ConfigDict(strict=True, extra="ignore")

    # Looked at by hand (`parse_inputs`): a union of four list types would be tried four times over.
    input: Annotated[Any, WithJsonSchema(_INPUT_SCHEMA)]
    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(None, ge=1)
    user: str | None = None


class EmbeddingObject(BaseModel):
    """One vector, as numbers or as base64 of little-endian float32."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens as the served model counts them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """`data` is in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: Usage


class ModelObject(BaseModel):
    """One served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(BaseModel):
    """All served models."""

    object: Literal["list"]
    data: list[ModelObject]


class ErrorObject(BaseModel):
    """`detail` is this server's own addition where OpenAI's message says little."""

    message: str
    type: str
    param: str | None
    code: str | None
    detail: str | None = None


class ERROR(BaseModel):
    """OpenAI's error body."""

    model_config = ConfigDict(title="OpenAIError")

    error: ErrorObject


async def create_embeddings(call: Call) -> Reply:
    """POST /v1/embeddings."""
    request = call.parse(EmbeddingsRequest)
    model = call.find_model(request.model)
    prompt = model.embedder.prompt(None)
    inputs = [Input(content, prompt) for content in parse_inputs(request.input, call.service.settings.max_inputs)]
    result = await model.embedder.embed(
        EmbedRequest(inputs, dimensions=request.dimensions, normalize=True),
        call.deadline,
    )
    call.count(result)
    headers = {"x-truncated-inputs": str(sum(result.truncated))} if any(result.truncated) else {}
    return Reply(_body(result, model.name, request.encoding_format), headers=headers)


def _body(result: EmbedResult, model: str, encoding_format: str | None) -> bytes:
    rows = as_base64(result.vectors) if encoding_format == "base64" else as_numbers(result.vectors)
    tokens = sum(result.tokens)
    return to_json(
        {
            "object": "list",
            "data": [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)],
            "model": model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def parse_inputs(value: Any, limit: int) -> Sequence[str | list[int]]:
    """The four forms of `input` as a list of texts or of token arrays. Raises InvalidInput, TooManyInputs."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise InvalidInput(f"input must be a string or an array, not {_json_type(value)}", "input")
    if not value:
        raise InvalidInput("input is an empty array", "input")
    if _is_token_ids(value):
        return [value]
    if len(value) > limit:
        raise TooManyInputs(limit, len(value), "input")
    if isinstance(value[0], str):
        wrong = next((i for i, one in enumerate(value) if not isinstance(one, str)), None)
    else:
        wrong = next((i for i, one in enumerate(value) if not (isinstance(one, list) and _is_token_ids(one))), None)
    if wrong is not None:
        raise InvalidInput(
            f"input[{wrong}] is {_json_type(value[wrong])}; input is a string, an array of strings, an array of token "
            "ids, or an array of non-empty arrays of token ids, never a mixture",
            "input",
        )
    return value


def _is_token_ids(value: list[Any]) -> bool:
    """JSON's integers alone: Python counts true and false among them, and 64 bits are enough for any vocabulary."""
    return bool(value) and all(type(one) is int and -_MAX_TOKEN_ID <= one <= _MAX_TOKEN_ID for one in value)


def _json_type(value: object) -> str:
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), "null")


async def list_models(call: Call) -> Reply:
    """GET /v1/models."""
    return Reply(to_json({"object": "list", "data": [_model(one) for one in call.service.registry.models()]}))


async def retrieve_model(call: Call) -> Reply:
    """GET /v1/models/{id}; ids may hold slashes."""
    return Reply(to_json(_model(call.find_model(call.path_params["model"]))))


def _model(model: Model) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "embedserve"}


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """OpenAI's words where its servers are known to say them; `detail` has ours."""
    message, code = _message(error), status.openai_code
    if isinstance(error, Unauthenticated) and error.masked_key is not None:
        code = "invalid_api_key"
    body: dict[str, Any] = {"message": message, "type": status.openai_type, "param": None, "code": code}
    if isinstance(error, RequestError) and error.message != message:
        body["detail"] = error.message
    return {"error": body}


def _message(error: EmbedserveError) -> str:
    match error:
        case InputTooLong():
            return (
                f"This model's maximum context length is {error.limit} tokens, however you requested {error.actual} "
                f"tokens ({error.actual} in your prompt; 0 for the completion). Please reduce your prompt; or "
                "completion length."
            )
        case DimensionsUnsupported():
            return "This model does not support specifying dimensions."
        case InvalidInput(param=str(param)) | TooManyInputs(param=str(param)):
            return f"'$.{param}' is invalid. {_REFERENCE}"
        case InvalidInput():
            return f"'$' is invalid. {_REFERENCE}"
        case MalformedBody():
            return (
                "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your "
                "HTTP library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)"
            )
        case Unauthenticated(masked_key=None):
            return (
                "You didn't provide an API key. You need to provide your API key in an Authorization header using "
                "Bearer auth (i.e. Authorization: Bearer YOUR_KEY)."
            )
        case Unauthenticated():
            return (
                f"Incorrect API key provided: {error.masked_key}. You can find your API key at "
                "https://platform.openai.com/account/api-keys."
            )
        case Overloaded():
            return f"Rate limit reached: {error.message} Please try again in {error.retry_after:.3g}s."
        case Unavailable():
            return f"Our servers are currently overloaded. Please try again later. ({error.message})"
    return str(error)


def owns(path: str) -> bool:
    """OpenAI's is the dialect of every path that no other claims."""
    return True


OPERATIONS = (
    Operation(
        "POST",
        ("/v1/embeddings",),
        create_embeddings,
        "Embed texts or token arrays",
        EmbeddingsRequest,
        EmbeddingsResponse,
    ),
    Operation("GET", ("/v1/models",), list_models, "List the served models", response=ModelList),
    Operation("GET", ("/v1/models/{model:path}",), retrieve_model, "Look one served model up", response=ModelObject),
)
