"""Google Vertex AI's dialect: :predict and :embedContent on publisher models, :predict on endpoints and in custom
containers, and the two descriptions that its SDKs ask for first.

Shapes: the Vertex AI text-embeddings API, google.cloud.aiplatform v1 and v1beta1, and the custom-container contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, FailFast, Field, WithJsonSchema

from service.api.errors import Status
from service.api.google import (
    ERROR,
    TASK_NAMES_SCHEMA,
    BatchEmbedContentsRequest,
    ContentEmbedding,
    EmbedContentRequest,
    Embedded,
    Message,
    Parameters,
    UsageMetadata,
    content_embedding,
    embed_contents,
    find_model,
    headers_of,
    message_of,
    needs_text,
    rows,
    status_body,
    to_input,
    to_request,
)
from service.api.http import MAX_ITEMS, Call, Handler, Operation, Reply, json_reply
from service.api.long_input import ChunkedItem, without_chunks
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.errors import EmbedserveError, InvalidInput, ModelNotFound, TooManyInputs
from service.model import Model
from service.types import EmbedRequest

__all__ = ["ERROR", "NAME", "OPERATIONS", "container_operations", "error_body", "owns"]

NAME = "vertex"
_FIRST_TASK = 2
# By this schema Google's SDK knows that a publisher model embeds texts.
_TEXT_EMBEDDING = "gs://google-cloud-aiplatform/schema/predict/instance/text_embedding_1.0.0.yaml"


_NOTHING = Annotated[Any, WithJsonSchema({"type": "null"})]


class Instance(Message):
    """One text, as `content`; or as `prompt`, which is answered by a bare array. Images and videos are refused."""

    model_config = ConfigDict(json_schema_extra={"anyOf": [needs_text("content"), needs_text("prompt")]})

    content: str | None = None
    prompt: str | None = None
    task_type: Annotated[str | None, WithJsonSchema({"anyOf": [TASK_NAMES_SCHEMA, {"type": "null"}]})] = None
    title: str | None = None
    image: _NOTHING = None
    video: _NOTHING = None


class PredictRequest(Message):
    """SDKs write integers as 128.0 at times, which is read as 128."""

    instances: Annotated[list[Instance], FailFast()] = Field(min_length=1, max_length=MAX_ITEMS)
    parameters: Parameters | None = None


class Statistics(WireModel):
    """Both are mandatory for Google's SDK."""

    token_count: int
    truncated: bool


class Embeddings(ChunkedItem):
    """One vector."""

    values: list[float]
    statistics: Statistics


class Prediction(WireModel):
    """One instance's answer."""

    embeddings: Embeddings


class Metadata(WireModel):
    """Code points of all contents, white space not counted, as Vertex bills them."""

    billableCharacterCount: int


class PredictResponse(WireModel):
    """`predictions` is in the order of the instances; a `prompt` is answered by a bare array."""

    predictions: list[Prediction | list[float]]
    metadata: Metadata


class EmbedContentResponse(WireModel):
    """One vector."""

    embedding: ContentEmbedding
    usageMetadata: UsageMetadata
    truncated: bool


class BatchEmbedContentsResponse(WireModel):
    """`embeddings` is in the order of the requests."""

    embeddings: list[Embeddings]
    usageMetadata: UsageMetadata


class PredictSchemata(WireModel):
    """Of which kind the instances are."""

    instanceSchemaUri: str


class PublisherModel(WireModel):
    """As much of a publisher model as clients look at."""

    name: str
    publisherModelTemplate: str
    predictSchemata: PredictSchemata | None = None  # of those that embed


class DeployedModel(WireModel):
    """The served model behind an endpoint."""

    id: str
    displayName: str


class EndpointDescription(WireModel):
    """As much of an endpoint as clients look at."""

    name: str
    displayName: str
    deployedModels: list[DeployedModel]


async def predict_publisher_model(call: Call) -> Reply:
    """The model is named in the path."""
    return await _predict(call, _publisher_model(call))


async def predict_endpoint(call: Call) -> Reply:
    """The model is behind the endpoint."""
    return await _predict(call, _behind_endpoint(call))


async def predict_default(call: Call) -> Reply:
    """A custom container serves one model."""
    return await _predict(call, call.find_model(None, "embedding"))


async def embed_content(call: Call) -> Reply:
    """POST …/models/{model}:embedContent."""
    model = _publisher_model(call)
    (embedded,) = await embed_contents(call, model, [call.parse(EmbedContentRequest)], _FIRST_TASK)
    body = {
        "embedding": content_embedding(embedded),
        "usageMetadata": {"promptTokenCount": embedded.tokens},
        "truncated": embedded.truncated,
    }
    return json_reply(body, headers_of([embedded]))


async def batch_embed_contents(call: Call) -> Reply:
    """POST …/models/{model}:batchEmbedContents, which google-genai sends since its version 3."""
    model = _publisher_model(call)
    requests = call.parse(BatchEmbedContentsRequest).requests
    _check_number(call, len(requests), "requests")
    embedded = await embed_contents(call, model, requests, _FIRST_TASK)
    tokens = sum(one.tokens for one in embedded)
    body = {"embeddings": [_embeddings(one) for one in embedded], "usageMetadata": {"promptTokenCount": tokens}}
    return json_reply(body, headers_of(embedded))


async def describe_publisher_model(call: Call) -> Reply:
    """GET /v1/publishers/{publisher}/models/{model}."""
    model = _publisher_model(call)
    name = f"publishers/{call.path_params['publisher']}/models/{call.path_params['model']}"
    body: dict[str, Any] = {
        "name": name,
        "publisherModelTemplate": f"projects/{{user-project}}/locations/{{location}}/{name}",
    }
    if model.bundle.task == "embedding":
        body["predictSchemata"] = {"instanceSchemaUri": _TEXT_EMBEDDING}
    return Reply(to_json(body))


async def describe_endpoint(call: Call) -> Reply:
    """GET /v1/projects/{project}/locations/{location}/endpoints/{endpoint}."""
    model = _behind_endpoint(call)
    return Reply(
        to_json(
            {
                "name": "projects/{project}/locations/{location}/endpoints/{endpoint}".format(**call.path_params),
                "displayName": model.name,
                "deployedModels": [{"id": "1", "displayName": model.name}],
            }
        )
    )


def _publisher_model(call: Call) -> Model:
    found = call.path_params
    resource = f"publishers/{found['publisher']}/models/{found['model']}"
    if "project" in found:
        resource = f"projects/{found['project']}/locations/{found['location']}/{resource}"
    return find_model(call, found["model"], resource)


def _behind_endpoint(call: Call) -> Model:
    """An endpoint is a number to Google; where it is not a served name, it stands for the default model."""
    try:
        return call.find_model(call.path_params["endpoint"])
    except ModelNotFound:
        return call.find_model(None, "embedding")


async def _predict(call: Call, model: Model) -> Reply:
    request = call.parse(PredictRequest)
    _check_number(call, len(request.instances), "instances")
    texts = [_text(instance, i) for i, instance in enumerate(request.instances)]
    wanted = _wanted(request.parameters or Parameters(), request.instances)
    inputs = [
        to_input(text, one.task_type, one.title, model) for text, one in zip(texts, request.instances, strict=True)
    ]
    result = await model.embedder.embed(wanted._replace(inputs=inputs), call.deadline)
    call.count(result)
    embedded = await rows([result])
    predictions = [_prediction(*pair) for pair in zip(request.instances, embedded, strict=True)]
    billable = sum(len("".join(text.split())) for text in texts)
    body = {"predictions": predictions, "metadata": {"billableCharacterCount": billable}}
    return json_reply(body, headers_of(embedded))


def _wanted(parameters: Parameters, instances: Sequence[Instance]) -> EmbedRequest:
    """Without its inputs. Raises InvalidInput; for chunks, too, where one of the answers is a bare array."""
    wanted = to_request(parameters)
    return without_chunks(wanted) if any(one.content is None for one in instances) else wanted


def _check_number(call: Call, actual: int, param: str) -> None:
    limit = call.service.settings.max_instances
    if actual > limit:
        raise TooManyInputs(limit, actual, param)


def _text(instance: Instance, index: int) -> str:
    if instance.image is not None or instance.video is not None:
        raise InvalidInput(f"instances.{index}: this model embeds texts, not images or videos.", "instances")
    text = instance.prompt if instance.content is None else instance.content
    if text is None:
        raise InvalidInput(f"instances.{index}.content: Field required", "instances")
    return text


def _prediction(instance: Instance, embedded: Embedded) -> Any:
    return embedded.values if instance.content is None else {"embeddings": _embeddings(embedded)}


def _embeddings(embedded: Embedded) -> dict[str, Any]:
    statistics = {"token_count": embedded.tokens, "truncated": embedded.truncated}
    return {"values": embedded.values, "statistics": statistics, **embedded.more}


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """google.rpc.Status."""
    return status_body(error, status, _message(error))


def _message(error: EmbedserveError) -> str:
    match error:
        case TooManyInputs():
            return f"{error.limit} instance(s) is allowed per prediction. Actual: {error.actual}"
        case ModelNotFound():
            return (
                f"Publisher Model `{error.name}` was not found or your project does not have access to it. Please "
                "ensure you are using a valid model version."
            )
    return message_of(error)


def owns(path: str) -> bool:
    """Google's paths name projects or publishers, or end in a custom method."""
    return path.startswith(("/v1/projects/", "/v1beta1/projects/", "/v1/publishers/", "/v1beta1/publishers/")) or (
        ":" in path.rpartition("/")[2]
    )


_VERSIONS: tuple[Literal["/v1", "/v1beta1"], ...] = ("/v1", "/v1beta1")
_PROJECT = "/projects/{project}/locations/{location}"
_MODEL = "/publishers/{publisher}/models/{model:path}"
_ENDPOINT = f"{_PROJECT}/endpoints/{{endpoint}}"


def _predicting(paths: tuple[str, ...], handler: Handler, summary: str) -> Operation:
    return Operation("POST", paths, handler, summary, PredictRequest, PredictResponse)


def container_operations(predict_route: str | None) -> tuple[Operation, ...]:
    """The custom-container contract: the path that AIP_PREDICT_ROUTE names."""
    if predict_route is None:
        return ()
    return (_predicting((predict_route,), predict_default, "Embed instances (custom container)"),)


def _methods(resources: tuple[str, ...], *methods: str) -> tuple[str, ...]:
    return tuple(f"{version}{one}:{method}" for method in methods for one in resources for version in _VERSIONS)


# Keys of "express mode" belong to a project, whose name clients then leave out.
_MODELS = (_PROJECT + _MODEL, _MODEL)

OPERATIONS = (
    _predicting(
        _methods(_MODELS, "predict", "rawPredict"), predict_publisher_model, "Embed instances with a publisher model"
    ),
    _predicting(_methods((_ENDPOINT,), "predict", "rawPredict"), predict_endpoint, "Embed instances on an endpoint"),
    Operation(
        "POST",
        _methods(_MODELS, "embedContent"),
        embed_content,
        "Embed a content with a publisher model",
        EmbedContentRequest,
        EmbedContentResponse,
    ),
    Operation(
        "POST",
        _methods(_MODELS, "batchEmbedContents"),
        batch_embed_contents,
        "Embed contents with a publisher model",
        BatchEmbedContentsRequest,
        BatchEmbedContentsResponse,
    ),
    # After the methods, which these templates would match as well.
    Operation(
        "GET",
        tuple(version + _MODEL for version in _VERSIONS),
        describe_publisher_model,
        "Describe a publisher model",
        response=PublisherModel,
    ),
    Operation(
        "GET",
        tuple(version + _ENDPOINT for version in _VERSIONS),
        describe_endpoint,
        "Describe an endpoint",
        response=EndpointDescription,
    ),
)
