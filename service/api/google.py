"""What Google's two dialects share: names of models, task types, contents, google.rpc errors.

Shapes: google.rpc.Status, and the messages of google.cloud.aiplatform and google.ai.generativelanguage in proto3's JSON
mapping (https://protobuf.dev/programming-guides/json/), which reads every field by its lowerCamelCase name and by its
own, and an enum by its name or its number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Annotated, Any

from pydantic import AliasChoices, AliasGenerator, ConfigDict, FailFast, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from service.api.errors import Status
from service.api.http import MAX_ITEMS, Call
from service.api.long_input import (
    ChunkedItem,
    LongInputFields,
    chunk_fields,
    long_input_headers,
    long_input_of,
    matrices_of,
    with_wishes,
)
from service.api.wire import as_numbers, rows_in_turns
from service.api.wire_model import WireModel
from service.choices import TruncationSide
from service.errors import (
    DimensionsUnsupported,
    EmbedserveError,
    InputTooLong,
    InvalidInput,
    ModelNotFound,
    OverRateLimit,
    RateLimited,
    ServerBusy,
    Unauthenticated,
)
from service.model import Model
from service.prompts import prompt_name_for, with_title
from service.types import EmbedRequest, EmbedResult, Input

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


class Message(WireModel):
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
    """One thing to embed: its parts' texts, a line each. Chunks have their places in all those lines together."""

    parts: Annotated[list[Part], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)


class Parameters(LongInputFields, Message):
    """autoTruncate: true cuts and says so, false refuses; absent, longInput or else the model's setting rules."""

    output_dimensionality: int | None = Field(None, ge=1)
    auto_truncate: bool | None = None
    truncation_side: TruncationSide | None = Field(None, description="Which end of an over-long input is cut off.")


class EmbedConfig(Parameters):
    """As above. `title` is read before every chunk of the content."""

    task_type: Annotated[str | int | None, WithJsonSchema(_TASK_SCHEMA)] = None
    title: str | None = None


class EmbedContentRequest(EmbedConfig):
    """`embedContentConfig` is Vertex's newer place for the others, and wins over them."""

    model: str | None = None
    content: Content
    embed_content_config: EmbedConfig | None = None


class BatchEmbedContentsRequest(Message):
    """Each request may say for itself what it wants."""

    requests: Annotated[list[EmbedContentRequest], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)


class ContentEmbedding(ChunkedItem):
    """One vector."""

    values: list[float]


class UsageMetadata(WireModel):
    """Tokens as the served model counts them."""

    promptTokenCount: int


class StatusObject(WireModel):
    """google.rpc.Status as JSON."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = Field(default_factory=list)


class GoogleError(WireModel):
    """Google's error body."""

    error: StatusObject


ERROR = GoogleError


@dataclass(frozen=True, slots=True)
class Embedded:
    """One content's answer. `more` is `ChunkedItem`, as far as it was asked for."""

    values: Any  # (dimensions,), for `wire.to_json`
    tokens: int
    truncated: bool
    more: dict[str, Any]


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
    """With the model's prompt for the task, and the title in it or behind it. Raises InvalidInput.

    The title is never a part of the text: it stands before every chunk, and their places are those in the text sent.
    """
    name = None
    if task is not None and task not in _NO_TASK:
        if task not in TASKS:
            raise InvalidInput(f"Unsupported task type: {task}. Use one of {', '.join(TASKS)}.", "taskType")
        name = prompt_name_for(task, model.bundle.prompts)
    prompt, titled = with_title(model.embedder.prompt(name), title, text)
    return Input(text, prompt + titled.removesuffix(text))


def to_request(parameters: Parameters) -> EmbedRequest:
    """Without its inputs. Raises InvalidInput for wishes that contradict each other."""
    own = EmbedRequest(
        (),
        dimensions=parameters.output_dimensionality,
        long_input=long_input_of(parameters.auto_truncate),
        truncation_side=parameters.truncation_side,
    )
    return with_wishes(own, parameters)


async def embed_contents(
    call: Call, model: Model, requests: Sequence[EmbedContentRequest], first_task: int
) -> list[Embedded]:
    """In their order. `first_task` is the number that the dialect's enum gives to the first of TASKS.

    Each of them may want something else; as a rule all want the same. Raises what Embedder.embed does.
    """
    inputs = [_content_input(request, model, first_task) for request in requests]
    wanted = [to_request(_config(request)) for request in requests]
    alike = groupby(zip(wanted, inputs, strict=True), itemgetter(0))
    together = [kind._replace(inputs=[one for _, one in group]) for kind, group in alike]
    results = await model.embedder.embed_each(together, call.deadline)
    call.count(_counted(results))
    return await rows(results)


def _counted(results: Sequence[EmbedResult]) -> EmbedResult:
    """One, for the counts of all, with the vectors of the first: they may differ in length."""
    first, *others = results
    if not others:
        return first
    return first._replace(
        tokens=[tokens for one in results for tokens in one.tokens],
        truncated=[truncated for one in results for truncated in one.truncated],
        rows=sum(one.rows for one in results),
        computed_tokens=sum(one.computed_tokens for one in results),
    )


async def rows(results: Sequence[EmbedResult]) -> list[Embedded]:
    """Their inputs, one by one."""
    encoded = iter(await rows_in_turns([one for result in results for one in matrices_of(result)], as_numbers))
    embedded: list[Embedded] = []
    for result in results:
        columns = zip(next(encoded), result.tokens, result.truncated, strict=True)
        chunks = [next(encoded) for _ in result.chunks]
        embedded += [Embedded(*row, chunk_fields(result, i, chunks)) for i, row in enumerate(columns)]
    return embedded


def content_embedding(embedded: Embedded) -> dict[str, Any]:
    """`ContentEmbedding`."""
    return {"values": embedded.values, **embedded.more}


def headers_of(embedded: Sequence[Embedded]) -> dict[str, str]:
    """Not every reply of these dialects has words for what they say."""
    late = [one.more["late"] for one in embedded if "late" in one.more]
    return long_input_headers((one.truncated for one in embedded), late)


def _config(request: EmbedContentRequest) -> EmbedConfig:
    """The request's own fields, overruled by those set in `embedContentConfig`."""
    newer = request.embed_content_config
    if newer is None:
        return request
    return request.model_copy(update={name: value for name, value in newer if value is not None})


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


def _details(error: EmbedserveError) -> list[dict[str, Any]]:
    match error:
        case Unauthenticated():
            reason = "CREDENTIALS_MISSING" if error.masked_key is None else "API_KEY_INVALID"
            return [{"@type": f"{_TYPE}ErrorInfo", "reason": reason, "domain": "googleapis.com"}]
        case RateLimited() | OverRateLimit():
            violation = {"subject": f"{error.kind}_per_minute", "description": f"limit: {error.limit}"}
            failure = {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}
            return [failure, _retry_info(error)] if isinstance(error, ServerBusy) else [failure]
        case ServerBusy():
            return [_retry_info(error)]
    return []


def _retry_info(error: ServerBusy) -> dict[str, Any]:
    """Its delay is rounded up: who waits so long is let in."""
    return {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{math.ceil(error.retry_after * 1000) / 1000:.3f}s"}


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
        case RateLimited():
            return (
                f"Quota exceeded for {error.kind} per minute: limit {error.limit}, used {error.used}, requested "
                f"{error.requested}. Please retry in {error.wait}."
            )
        case OverRateLimit():
            return (
                f"Quota exceeded for {error.kind} per minute: limit {error.limit}, requested {error.requested}. It can "
                "never pass; send less at once."
            )
    return str(error)
