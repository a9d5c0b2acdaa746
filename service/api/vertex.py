"""Google Vertex AI's dialect: text embeddings by :predict, on publisher models, endpoints and custom containers.

Shapes: the Vertex AI text-embeddings API and its custom-container contract; errors are google.rpc.Status.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from service.api.errors import Status
from service.api.http import Call, Operation, Reply
from service.api.wire import as_numbers, to_json
from service.errors import (
    EmbedserveError,
    InvalidInput,
    ModelNotFound,
    TooManyInputs,
    Unauthenticated,
)
from service.prompts import TASK_PROMPTS, prompt_name_for, with_title
from service.registry import Model
from service.types import EmbedRequest, EmbedResult, Input, LongInput

NAME = "vertex"


class Instance(BaseModel):
    """One text. The API writes task_type, its REST reference taskType; both are read."""

    model_config = ConfigDict(extra="ignore")

    content: str
    task_type: str | None = Field(None, validation_alias=AliasChoices("task_type", "taskType"))
    title: str | None = None


class Parameters(BaseModel):
    """autoTruncate: true cuts and says so, false refuses; absent, the model's setting rules."""

    model_config = ConfigDict(extra="ignore")

    autoTruncate: bool | None = None
    outputDimensionality: int | None = Field(None, ge=1)


class PredictRequest(BaseModel):
    """SDKs write integers as 128.0 at times, which is read as 128."""

    model_config = ConfigDict(extra="ignore")

    instances: list[Instance] = Field(min_length=1)
    parameters: Parameters | None = None


class Statistics(BaseModel):
    """Both are mandatory for Google's SDK."""

    token_count: int
    truncated: bool


class Embeddings(BaseModel):
    """One vector."""

    values: list[float]
    statistics: Statistics


class Prediction(BaseModel):
    """One instance's answer."""

    embeddings: Embeddings


class Metadata(BaseModel):
    """Code points of all contents, white space not counted, as Vertex bills them."""

    billableCharacterCount: int


class PredictResponse(BaseModel):
    """`predictions` is in the order of the instances."""

    predictions: list[Prediction]
    metadata: Metadata


class StatusObject(BaseModel):
    """google.rpc.Status as JSON."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]] = []


class ERROR(BaseModel):
    """Google's error body."""

    model_config = ConfigDict(title="GoogleError")

    error: StatusObject


async def predict_publisher_model(call: Call) -> Reply:
    """The model is named in the path."""
    return await _predict(call, call.find_model(call.path_params["model"]))


async def predict_endpoint(call: Call) -> Reply:
    """An endpoint is a number to Google; where it is not a served name, it stands for the default model."""
    try:
        model = call.find_model(call.path_params["endpoint"])
    except ModelNotFound:
        model = call.find_model(None)
    return await _predict(call, model)


async def predict_default(call: Call) -> Reply:
    """A custom container serves one model."""
    return await _predict(call, call.find_model(None))


async def _predict(call: Call, model: Model) -> Reply:
    request = call.parse(PredictRequest)
    limit = call.service.settings.max_instances
    if len(request.instances) > limit:
        raise TooManyInputs(limit, len(request.instances), "instances")
    parameters = request.parameters or Parameters()
    result = await model.embedder.embed(
        EmbedRequest(
            [_input(instance, model) for instance in request.instances],
            dimensions=parameters.outputDimensionality,
            long_input=_long_input(parameters.autoTruncate),
        ),
        call.deadline,
    )
    call.count(result)
    return Reply(_body(result, request))


def _input(instance: Instance, model: Model) -> Input:
    task, name = instance.task_type, None
    if task and task not in ("TASK_TYPE_UNSPECIFIED", "UNSPECIFIED"):
        if task not in TASK_PROMPTS:
            raise InvalidInput(f"Unsupported task_type: {task}. Use one of {', '.join(TASK_PROMPTS)}.", "task_type")
        name = prompt_name_for(task, model.bundle.prompts)
    prompt, text = with_title(model.embedder.prompt(name), instance.title, instance.content)
    return Input(text, prompt)


def _long_input(auto_truncate: bool | None) -> LongInput | None:
    if auto_truncate is None:
        return None
    return LongInput.TRUNCATE if auto_truncate else LongInput.REJECT


def _body(result: EmbedResult, request: PredictRequest) -> bytes:
    predictions = [
        {"embeddings": {"values": values, "statistics": {"token_count": tokens, "truncated": truncated}}}
        for values, tokens, truncated in zip(as_numbers(result.vectors), result.tokens, result.truncated, strict=True)
    ]
    billable = sum(len("".join(instance.content.split())) for instance in request.instances)
    return to_json({"predictions": predictions, "metadata": {"billableCharacterCount": billable}})


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """google.rpc.Status; details only where Google's own servers give them."""
    details = []
    if isinstance(error, Unauthenticated):
        reason = "CREDENTIALS_MISSING" if error.masked_key is None else "API_KEY_INVALID"
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        details.append({"@type": kind, "reason": reason, "domain": "googleapis.com"})
    return {
        "error": {
            "code": status.http,
            "message": _message(error),
            "status": status.google,
            "details": details,
        }
    }


def _message(error: EmbedserveError) -> str:
    match error:
        case TooManyInputs():
            return f"{error.limit} instance(s) is allowed per prediction. Actual: {error.actual}"
        case ModelNotFound():
            return (
                f"Publisher Model `{error.name}` was not found or your project does not have access to it. Please "
                "ensure you are using a valid model version."
            )
        case Unauthenticated(masked_key=None):
            return (
                "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie "
                "or other valid authentication credential."
            )
        case Unauthenticated():
            return "API key not valid. Please pass a valid API key."
    return str(error)


def owns(path: str) -> bool:
    """Google's paths name projects or publishers, or end in a custom method."""
    return path.startswith(("/v1/projects/", "/v1beta1/projects/", "/v1/publishers/", "/v1beta1/publishers/")) or (
        ":" in path.rpartition("/")[2]
    )


_PROJECT = "/projects/{project}/locations/{location}"
_VERSIONS: tuple[Literal["/v1", "/v1beta1"], ...] = ("/v1", "/v1beta1")


def _operation(paths: tuple[str, ...], handler: Any, summary: str) -> Operation:
    return Operation("POST", paths, handler, summary, PredictRequest, PredictResponse)


def container_operations(predict_route: str | None) -> tuple[Operation, ...]:
    """The custom-container contract: the path that AIP_PREDICT_ROUTE names."""
    if predict_route is None:
        return ()
    return (_operation((predict_route,), predict_default, "Embed instances (custom container)"),)


OPERATIONS = (
    _operation(
        tuple(f"{v}{_PROJECT}/publishers/{{publisher}}/models/{{model:path}}:predict" for v in _VERSIONS),
        predict_publisher_model,
        "Embed instances with a publisher model",
    ),
    _operation(
        tuple(f"{v}{_PROJECT}/endpoints/{{endpoint}}:predict" for v in _VERSIONS),
        predict_endpoint,
        "Embed instances on an endpoint",
    ),
)
