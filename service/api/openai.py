"""OpenAI's dialect: /v1/embeddings and /v1/models, also under the names that Azure and older clients have for them.

Shapes: the OpenAPI document of OpenAI's API (openai/openai-openapi), error bodies as its servers send them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial
from typing import Any, Literal
from urllib.parse import quote

from service.api.errors import Status
from service.api.http import Call, Operation, Reply, json_reply
from service.api.long_input import ChunkedItem, chunk_fields, long_input_headers, matrices_of, with_wishes
from service.api.openai_fields import EmbeddingsRequest, Options, options_of, parse_inputs
from service.api.wire import as_base64, as_numbers, rows_in_turns, to_json
from service.api.wire_model import WireModel
from service.errors import (
    DimensionsUnsupported,
    EmbedserveError,
    InputTooLong,
    InvalidInput,
    MalformedBody,
    Overloaded,
    OverRateLimit,
    RateLimited,
    RequestError,
    TooManyInputs,
    Unauthenticated,
    Unavailable,
)
from service.model import Model
from service.postprocess import check_packable, quantize
from service.types import EmbedResult, Input, Matrix

NAME = "openai"
_API_VERSION = "2020-10-01"  # the only one OpenAI has ever named
_REFERENCE = "Please check the API reference: https://platform.openai.com/docs/api-reference."


class EmbeddingObject(ChunkedItem):
    """One vector, as numbers or as base64 of the little-endian bytes of its dtype."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | str


class Usage(WireModel):
    """Tokens as the served model counts them."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(WireModel):
    """`data` is in the order of the inputs."""

    object: Literal["list"]
    data: list[EmbeddingObject]
    model: str
    usage: Usage


class ModelObject(WireModel):
    """One served model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class RetrievedModel(ModelObject):
    """KServe's V1 has the same path: `name` and `ready` are its."""

    name: str
    ready: bool


class ModelList(WireModel):
    """All served models. KServe's V1 has the same path: `models`, their names, is its."""

    object: Literal["list"]
    data: list[ModelObject]
    models: list[str]


class ErrorObject(WireModel):
    """`detail` is this server's own addition where OpenAI's message says little."""

    message: str
    type: str
    param: str | None
    code: str | None
    detail: str | None = None


class OpenAIError(WireModel):
    """OpenAI's error body."""

    error: ErrorObject


ERROR = OpenAIError


async def create_embeddings(call: Call) -> Reply:
    """POST /v1/embeddings and its other names; a model in the path outranks the one in the body."""
    request = call.parse(EmbeddingsRequest)
    model = call.find_model(call.path_params.get("model", request.model), "embedding")
    options = options_of(request, model.bundle.prompts)
    check_packable(options.dtype, options.dimensions or model.bundle.dimensions)
    prompt = model.embedder.prompt(options.prompt_name)
    inputs = [Input(content, prompt) for content in parse_inputs(request.input, call.service.settings.max_inputs)]
    result = await model.embedder.embed(with_wishes(options.request(inputs), request), call.deadline)
    call.count(result)
    rows, *chunks = await rows_in_turns(matrices_of(result), partial(_encode, options))
    return json_reply(_body(result, model.name, rows, chunks), _headers(call, model, result))


def _body(result: EmbedResult, model: str, rows: Sequence[Any], chunks: Sequence[Sequence[Any]]) -> dict[str, Any]:
    tokens = sum(result.tokens)
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": i, "embedding": row, **chunk_fields(result, i, chunks)}
            for i, row in enumerate(rows)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _encode(options: Options, vectors: Matrix) -> Sequence[Any]:
    numbers = quantize(vectors, options.dtype)
    return as_base64(numbers) if options.base64 else as_numbers(numbers)


def _headers(call: Call, model: Model, result: EmbedResult) -> dict[str, str]:
    """As OpenAI's servers send them; a name outside ASCII is percent-encoded, as headers cannot hold it."""
    return {
        "openai-model": _quoted(model.name),
        "openai-processing-ms": str(round(1000 * call.seconds())),
        "openai-version": _API_VERSION,
        **long_input_headers(result.truncated, result.late),
    }


_quoted = cache(quote)


async def list_models(call: Call) -> Reply:
    """GET /v1/models."""
    models = call.service.registry.models()
    names = [one.name for one in models]
    return Reply(to_json({"object": "list", "data": [_model(one) for one in models], "models": names}))


async def retrieve_model(call: Call) -> Reply:
    """GET /v1/models/{id}; ids may hold slashes."""
    model = call.find_model(call.path_params["model"])
    return Reply(to_json({**_model(model), "name": model.name, "ready": call.service.registry.ready}))


def _model(model: Model) -> dict[str, object]:
    return {"id": model.name, "object": "model", "created": model.created, "owned_by": "embedserve"}


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """OpenAI's words where its servers are known to say them; `detail` has ours."""
    message, code = _message(error), status.openai_code
    if isinstance(error, Unauthenticated) and error.masked_key is not None:
        code = "invalid_api_key"
    kind = error.kind if isinstance(error, RateLimited | OverRateLimit) else status.openai_type
    body: dict[str, Any] = {"message": message, "type": kind, "param": None, "code": code}
    if isinstance(error, RequestError) and error.message != message:
        body["detail"] = error.message
    return {"error": body}


def error_body_elsewhere(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """On routes that OpenAI has not: where a field is to blame the message is the reason itself, as OpenAI's words link
    to its own reference."""
    body = error_body(error, status)
    if isinstance(error, InvalidInput | TooManyInputs):
        body["error"].pop("detail", None)
        body["error"]["message"] = error.message
    return body


_PER_MINUTE = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}


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
        case RateLimited():
            return (
                f"Rate limit reached on {_PER_MINUTE[error.kind]}: Limit {error.limit}, Used {error.used}, Requested "
                f"{error.requested}. Please try again in {error.wait}."
            )
        case OverRateLimit():
            return (
                f"Request too large on {_PER_MINUTE[error.kind]}: Limit {error.limit}, Requested {error.requested}. "
                "It can never pass: the input must be reduced in order to run successfully."
            )
        case Unavailable():
            return f"Our servers are currently overloaded. Please try again later. ({error.message})"
    return str(error)


def owns(path: str) -> bool:
    """OpenAI's is the dialect of every path that no other claims."""
    return True


# Azure OpenAI's deployments, and OpenAI's engines of before 2023, name the model in the path.
_EMBEDDINGS_PATHS = (
    "/v1/embeddings",
    "/embeddings",
    "/openai/v1/embeddings",
    "/v1/engines/{model:path}/embeddings",
    "/openai/deployments/{model:path}/embeddings",
)
# Azure's client lists below /openai.
_MODELS_PATHS = ("/v1/models", "/models", "/openai/v1/models", "/openai/models")

OPERATIONS = (
    Operation(
        "POST",
        _EMBEDDINGS_PATHS,
        create_embeddings,
        "Embed texts or token arrays",
        EmbeddingsRequest,
        EmbeddingsResponse,
    ),
    Operation("GET", _MODELS_PATHS, list_models, "List the served models", response=ModelList),
    Operation(
        "GET",
        tuple(f"{path}/{{model:path}}" for path in _MODELS_PATHS),
        retrieve_model,
        "Look one served model up",
        response=RetrievedModel,
    ),
)
