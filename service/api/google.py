"""What Google's two dialects share: names of models, task types, contents, google.rpc errors.

Shapes: google.rpc.Status, and the messages of google.cloud.aiplatform and google.ai.generativelanguage in proto3's JSON
mapping (https://protobuf.dev/programming-guides/json/), which reads every field by its lowerCamelCase name and by its
own, and an enum by its name or its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AliasChoices, AliasGenerator, BaseModel, ConfigDict, FailFast, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from service.api.errors import Status
from service.api.http import MAX_ITEMS, Call
from service.api.truncation import long_input_of
from service.api.wire import as_numbers
from service.errors import (
    DimensionsUnsupported,
    EmbedserveError,
    InputTooLong,
    InvalidInput,
    ModelNotFound,
    ServerBusy,
    Unauthenticated,
)
from service.prompts import prompt_name_for, with_title
from service.registry import Model
from service.types import EmbedRequest, EmbedResult, Input, LongInput

# In the order of both enums; their numbers begin at different ones.
TASKS = (
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
_NO_TASK = ("", "UNSPECIFIED", "TASK_TYPE_UNSPECIFIED")
TASK_NAMES_SCHEMA = {"type": "string", "enum": [*TASKS, *_NO_TASK]}
_TASK_SCHEMA = {
    "description": "A task's name, or its number in the API's own enum.",
    "anyOf": [TASK_NAMES_SCHEMA, {"type": "integer"}, {"type": "null"}],
}
_TYPE = "type.googleapis.com/google.rpc."


class Message(BaseModel):
    """Fields that are not known are ignored, and null is as good as absent."""

    model_config = ConfigDict(
        extra="ignore",
        alias_generator=AliasGenerator(validation_alias=lambda name: AliasChoices(to_camel(name), name)),
    )


def needs_text(name: str) -> dict[str, Any]:
    """JSON Schema of an object whose field is required, for one that is looked at by hand."""
    return {"required": [name], "properties": {name: {"type": "string"}}}


class Part(Message):
    """One piece of a content. Only texts can be embedded."""

    model_config = ConfigDict(json_schema_extra={"allOf": [needs_text("text")]})

    text: str | None = None


class Content(Message):
    """One thing to embed: its parts' texts, a line each."""

    parts: Annotated[list[Part], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)


class EmbedConfig(Message):
    """autoTruncate: true cuts and says so, false refuses; absent, the model's setting rules."""

    task_type: Annotated[str | int | None, WithJsonSchema(_TASK_SCHEMA)] = None
    title: str | None = None
    output_dimensionality: int | None = Field(None, ge=1)
    auto_truncate: bool | None = None


class EmbedContentRequest(EmbedConfig):
    """`embedContentConfig` is Vertex's newer place for the other four, and wins over them."""

    model: str | None = None
    content: Content
    embed_content_config: EmbedConfig | None = None


class BatchEmbedContentsRequest(Message):
    """Each request may say for itself what it wants."""

    requests: Annotated[list[EmbedContentRequest], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)


class ContentEmbedding(BaseModel):
    """One vector."""

    values: list[float]


class UsageMetadata(BaseModel):
    """Tokens as the served model counts them."""

    promptTokenCount: int


class StatusObject(BaseModel):
    """google.rpc.Status as JSON."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = []


class GoogleError(BaseModel):
    """Google's error body."""

    error: StatusObject


ERROR = GoogleError


@dataclass(frozen=True, slots=True)
class Embedded:
    """One content's answer."""

    values: Any  # (dimensions,), for `wire.to_json`
    tokens: int
    truncated: bool


def find_model(call: Call, name: str, resource: str) -> Model:
    """A name with a version (`text-embedding-005@001`) is looked up whole, then without it.

    Raises ModelNotFound with `resource`, which is what Google calls it; Unavailable.
    """
    for candidate in dict.fromkeys((name, name.partition("@")[0])):
        try:
            return call.find_model(candidate)
        except ModelNotFound:
            continue
    raise ModelNotFound(resource)


def to_input(text: str, task: str | None, title: str | None, model: Model) -> Input:
    """With the model's prompt for the task, and the title where the prompt has room for it. Raises InvalidInput."""
    name = None
    if task is not None and task not in _NO_TASK:
        if task not in TASKS:
            raise InvalidInput(f"Unsupported task type: {task}. Use one of {', '.join(TASKS)}.", "taskType")
        name = prompt_name_for(task, model.bundle.prompts)
    prompt, text = with_title(model.embedder.prompt(name), title, text)
    return Input(text, prompt)


async def embed_contents(
    call: Call, model: Model, requests: Sequence[EmbedContentRequest], first_task: int
) -> list[Embedded]:
    """In their order. `first_task` is the number that the dialect's enum gives to the first of TASKS.

    Requests of one batch may ask for different sizes, so each kind is embedded by itself; as a rule there is one.
    """
    inputs = [_content_input(request, model, first_task) for request in requests]
    kinds: dict[tuple[int | None, LongInput | None], list[int]] = {}
    for i, request in enumerate(requests):
        config = _config(request)
        kinds.setdefault((config.output_dimensionality, long_input_of(config.auto_truncate)), []).append(i)
    found: dict[int, Embedded] = {}
    for (dimensions, policy), members in kinds.items():
        wanted = EmbedRequest([inputs[i] for i in members], dimensions=dimensions, long_input=policy)
        result = await model.embedder.embed(wanted, call.deadline)
        call.count(result)
        found.update(zip(members, rows(result), strict=True))
    return [found[i] for i in range(len(requests))]


def rows(result: EmbedResult) -> list[Embedded]:
    """A result, input by input."""
    return [Embedded(*row) for row in zip(as_numbers(result.vectors), result.tokens, result.truncated, strict=True)]


def _config(request: EmbedContentRequest) -> EmbedConfig:
    """The request's own fields, overruled by those set in `embedContentConfig`."""
    newer = request.embed_content_config
    return request if newer is None else request.model_copy(update=newer.model_dump(exclude_none=True))


def _content_input(request: EmbedContentRequest, model: Model, first_task: int) -> Input:
    texts = [part.text for part in request.content.parts if part.text is not None]
    if len(texts) < len(request.content.parts):
        raise InvalidInput("content.parts: this model embeds texts; every part needs a text.", "content")
    config = _config(request)
    return to_input("\n".join(texts), _task_name(config.task_type, first_task), config.title, model)


def _task_name(task: str | int | None, first_task: int) -> str | None:
    """Clients that speak REST through protobuf send an enum's number."""
    if not isinstance(task, int):
        return task
    names = dict(enumerate(TASKS, first_task)) | {0: ""}
    return names.get(task, str(task))


def status_body(error: EmbedserveError, status: Status, message: str) -> dict[str, Any]:
    """google.rpc.Status; details where Google's clients look for them."""
    return {
        "error": {"code": status.http, "message": message, "status": status.google, "details": _details(error)},
    }


def _details(error: EmbedserveError) -> list[dict[str, str]]:
    match error:
        case Unauthenticated():
            reason = "CREDENTIALS_MISSING" if error.masked_key is None else "API_KEY_INVALID"
            return [{"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
        case ServerBusy():
            return [{"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{error.retry_after:.3f}s"}]
    return []


def message_of(error: EmbedserveError) -> str:
    """Google's words where both of its APIs have the same."""
    match error:
        case InputTooLong():
            return (
                f"Unable to submit request because the input token count is {error.actual} but the model supports up "
                f"to {error.limit}. Reduce the input token count and try again."
            )
        case DimensionsUnsupported():
            sizes = ", ".join(map(str, error.allowed))
            return f"outputDimensionality {error.requested} is not supported; this model has {sizes}."
        case Unauthenticated(masked_key=None):
            return (
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie "
                "or other valid authentication credential."
            )
        case Unauthenticated():
            return "API key not valid. Please pass a valid API key."
    return str(error)
