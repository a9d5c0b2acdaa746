"""KServe's dialects: V1 (TensorFlow Serving's predict) and V2, the Open Inference Protocol, with binary tensors.

Shapes: KServe's data-plane documents and rest_predict_v2.yaml; the binary part is in `oip_binary`. GET /v1/models and
/v1/models/{m} are KServe's and OpenAI's at once, and stand in `openai`.

To V2 every model takes one tensor of texts, whatever its name, and gives one, `embedding`. There is one version of
a model, 1. `parameters` may hold this server's own (`EmbedParameters`), in V1 too. The vectors stand alone, so that
there is no room for those of chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Discriminator, FailFast, Field, Tag, WithJsonSchema

import service
from service.api import health
from service.api.errors import Status, retry_headers
from service.api.http import MAX_ITEMS, Call, Operation, Reply, json_reply
from service.api.long_input import LongInputFields, long_input_headers, with_wishes, without_chunks
from service.api.oip_binary import CONTENT_TYPE, HEADER, decode_texts, encode_fp32, split_body
from service.api.wire import as_numbers, as_one_list, in_turns, rows_in_turns, to_json
from service.api.wire_model import WireModel
from service.choices import TruncationSide
from service.errors import EmbedserveError, InvalidInput, ModelNotFound, Unavailable
from service.model import Model
from service.types import EmbedRequest, EmbedResult, Input

NAME = "kserve"
_VERSION = "1"


class _Lenient(WireModel):
    """Unknown fields are ignored: clients of Triton send sequence ids, priorities and more."""

    model_config = ConfigDict(extra="ignore")


class EmbedParameters(LongInputFields, _Lenient):
    """The size of the vectors, which of the model's prompts stands before each text, and what becomes of a long one."""

    dimensions: int | None = Field(None, ge=1)
    prompt_name: str | None = None
    truncation_side: TruncationSide | None = Field(None, description="Which end of an over-long text is cut off.")


class TextInstance(_Lenient):
    """An instance as an object; its text may be called content (Vertex), text or prompt (LiteLLM)."""

    content: str = Field(validation_alias=AliasChoices("content", "text", "prompt"))


def _kind(instance: object) -> str:
    return "string" if isinstance(instance, str) else "object"


class V1PredictRequest(_Lenient):
    """Each instance is a text, or an object that holds one."""

    instances: Annotated[
        list[Annotated[Annotated[str, Tag("string")] | Annotated[TextInstance, Tag("object")], Discriminator(_kind)]],
        FailFast(),
    ] = Field(min_length=1, max_length=MAX_ITEMS)
    parameters: EmbedParameters | None = None


class V1PredictResponse(WireModel):
    """One vector per instance, in their order."""

    predictions: list[list[float]]


class InputTensorParameters(_Lenient):
    """How many of the bytes after the JSON are this tensor's. Shared memory is not shared with this server."""

    binary_data_size: int | None = Field(None, ge=0)
    shared_memory_region: None = None


_DATA_SCHEMA = {
    "description": "The texts, flat or nested as the shape says.",
    "anyOf": [
        {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}},
        {"type": "string"},
        {"type": "null"},
    ],
}


class InputTensor(_Lenient):
    """Texts, of shape [n], [n, 1], or [] for a single one; in `data`, or in binary after the JSON."""

    name: str
    datatype: Literal["BYTES"]
    shape: Annotated[list[Annotated[int, Field(ge=1)]], FailFast()] = Field(max_length=2)
    data: Annotated[Any, WithJsonSchema(_DATA_SCHEMA)] = None
    parameters: InputTensorParameters | None = None


class OutputParameters(_Lenient):
    """`binary_data` overrides the request's `binary_data_output`."""

    binary_data: bool | None = None
    shared_memory_region: None = None
    classification: None = None


class RequestedOutput(_Lenient):
    """The only output there is."""

    name: Literal["embedding"]
    parameters: OutputParameters | None = None


class InferParameters(EmbedParameters):
    """`binary_data_output` asks for all outputs in binary."""

    binary_data_output: bool | None = None


class InferRequest(_Lenient):
    """`id` is echoed. Missing or empty `outputs` means all."""

    id: str | None = None
    inputs: Annotated[list[InputTensor], FailFast()] = Field(min_length=1, max_length=1)
    outputs: Annotated[list[RequestedOutput], Field(fail_fast=True)] | None = Field(None, max_length=1)
    parameters: InferParameters | None = None


class OutputTensorParameters(WireModel):
    """The length of the tensor in bytes, after the JSON."""

    binary_data_size: int


class OutputTensor(WireModel):
    """The vectors, row after row: in `data`, or as little-endian float32 after the JSON."""

    name: Literal["embedding"]
    datatype: Literal["FP32"]
    shape: list[int]
    data: list[float] | None = None
    parameters: OutputTensorParameters | None = None


class InferResponse(WireModel):
    """`id` is the request's, where it had one."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class ModelNames(WireModel):
    """Of all served models."""

    models: list[str]


class TensorMetadata(WireModel):
    """-1 stands for any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(WireModel):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(WireModel):
    """Who serves."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(WireModel):
    """Liveness."""

    live: bool


class ServerReady(WireModel):
    """Readiness."""

    ready: bool


class ModelReady(WireModel):
    """Readiness of one model."""

    name: str
    ready: bool


class KServeError(WireModel):
    """KServe's error body."""

    error: str


ERROR = KServeError


# --- embedding ------------------------------------------------------------------------------------------------


async def predict(call: Call) -> Reply:
    """POST /v1/models/{m}:predict."""
    model = _find_model(call)
    request = call.parse(V1PredictRequest)
    call.check_count(len(request.instances), "instances")
    texts = [one if isinstance(one, str) else one.content for one in request.instances]
    result = await _embed(call, model, texts, request.parameters or EmbedParameters())
    (rows,) = await rows_in_turns([result.vectors], as_numbers)
    return json_reply({"predictions": rows}, _headers(result))


async def infer(call: Call) -> Reply:
    """POST /v2/models/{m}/infer."""
    model = _find_model(call)
    call.body, binary = split_body(call.body, call.headers.get(HEADER.encode("ascii")))
    request = call.parse(InferRequest)
    texts = _read_texts(request.inputs[0], binary, call)
    result = await _embed(call, model, texts, request.parameters or InferParameters())
    return await _infer_reply(request, model, result)


async def _embed(call: Call, model: Model, texts: Sequence[str], parameters: EmbedParameters) -> EmbedResult:
    prompt = model.embedder.prompt(parameters.prompt_name)
    own = EmbedRequest(
        [Input(text, prompt) for text in texts],
        dimensions=parameters.dimensions,
        truncation_side=parameters.truncation_side,
    )
    result = await model.embedder.embed(without_chunks(with_wishes(own, parameters)), call.deadline)
    call.count(result)
    return result


def _headers(result: EmbedResult) -> dict[str, str]:
    return long_input_headers(result.truncated, result.late)


def _read_texts(tensor: InputTensor, binary: bytes, call: Call) -> list[str]:
    """As many as the shape says. Raises InvalidInput, TooManyInputs."""
    count = _count(tensor.shape)
    call.check_count(count, "inputs")
    size = tensor.parameters.binary_data_size if tensor.parameters else None
    if (size or 0) != len(binary):
        raise InvalidInput(f"binary_data_size is {size or 0}, but {len(binary)} bytes follow the JSON.", "inputs")
    if size is None:
        return _flat(tensor.data, count)
    if tensor.data is not None:
        raise InvalidInput("A tensor has data or binary_data_size, not both.", "inputs")
    return decode_texts(binary, count)


def _count(shape: Sequence[int]) -> int:
    match shape:
        case []:
            return 1
        case [count] | [count, 1]:
            return count
    raise InvalidInput("The shape of the texts is [n], [n, 1], or [] for one of them.", "inputs")


def _flat(data: object, count: int) -> list[str]:
    rows = data if isinstance(data, list) else [data]
    elements = [one for row in rows for one in (row if isinstance(row, list) else [row])]
    texts = [one for one in elements if isinstance(one, str)]
    if len(texts) != len(elements):
        raise InvalidInput("The data of a BYTES tensor are strings, in one list or one list each.", "inputs")
    if len(texts) != count:
        raise InvalidInput(f"The shape says {count}, but data has {len(texts)}.", "inputs")
    return texts


async def _infer_reply(request: InferRequest, model: Model, result: EmbedResult) -> Reply:
    output: dict[str, object] = {"name": "embedding", "datatype": "FP32", "shape": result.vectors.shape}
    body: dict[str, object] = {"model_name": model.name, "model_version": _VERSION, "outputs": [output]}
    if request.id is not None:
        body["id"] = request.id
    headers = _headers(result)
    if not _wants_binary(request):
        (output["data"],) = await in_turns([result.vectors], as_one_list)
        return json_reply(body, headers)
    tensor = encode_fp32(result.vectors)
    output["parameters"] = {"binary_data_size": len(tensor)}
    json = to_json(body)
    return Reply(json + tensor, content_type=CONTENT_TYPE, headers={HEADER: str(len(json)), **headers})


def _wants_binary(request: InferRequest) -> bool:
    asked = request.outputs[0].parameters if request.outputs else None
    if asked and asked.binary_data is not None:
        return asked.binary_data
    return bool(request.parameters and request.parameters.binary_data_output)


# --- metadata and health --------------------------------------------------------------------------------------


def _find_model(call: Call) -> Model:
    """The path's. Raises ModelNotFound, for a version that there is not as well; Unavailable."""
    name, version = call.path_params["model"], call.path_params.get("version", _VERSION)
    model = call.find_model(name)
    if version != _VERSION:
        raise ModelNotFound(f"{name} and version {version}")
    return model


async def describe_server(call: Call) -> Reply:
    """GET /v2."""
    extensions = ["binary_tensor_data"]
    return Reply(to_json({"name": "embedserve", "version": service.__version__, "extensions": extensions}))


async def list_models(call: Call) -> Reply:
    """GET /v2/models, which KServe has beyond the protocol."""
    return Reply(to_json({"models": [model.name for model in call.service.registry.models()]}))


async def describe_model(call: Call) -> Reply:
    """GET /v2/models/{m}."""
    model = _find_model(call)
    text = {"name": "text", "datatype": "BYTES", "shape": [-1]}
    embedding = {"name": "embedding", "datatype": "FP32", "shape": [-1, model.bundle.dimensions]}
    return Reply(
        to_json(
            {
                "name": model.name,
                "versions": [_VERSION],
                "platform": "onnxruntime_onnx",  # Triton's word for it
                "inputs": [text],
                "outputs": [embedding] if model.bundle.task == "embedding" else [],  # others answer elsewhere
            }
        )
    )


async def live(call: Call) -> Reply:
    """GET /v2/health/live, which is /livez in other words."""
    status = (await health.live(call)).status
    return Reply(to_json({"live": status == 200}), status)


async def ready(call: Call) -> Reply:
    """GET /v2/health/ready, which is /readyz in other words."""
    is_ready = call.service.registry.ready
    return Reply(to_json({"ready": is_ready}), 200 if is_ready else 503)


async def model_ready(call: Call) -> Reply:
    """GET /v2/models/{m}/ready, of this very model. Open to all, as probes have no key; 404 for one that is neither
    loaded nor loading."""
    try:
        model = _find_model(call)
        is_well = model.failing_for() is None
        body, is_ready, headers = {"name": model.name}, is_well and not call.service.registry.is_leaving, {}
    except Unavailable as error:
        body, is_ready, headers = {"name": call.path_params["model"]}, False, retry_headers(error)
    return Reply(to_json({**body, "ready": is_ready}), 200 if is_ready else 503, headers=headers)


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """A sentence; KServe's own where a model is unknown."""
    if isinstance(error, ModelNotFound):
        return {"error": f"Model with name {error.name} does not exist."}
    return {"error": str(error)}


def owns(path: str) -> bool:
    """V2's paths; others have words under /v2 too."""
    return path.startswith(("/v2/health", "/v2/models", "/v2/repository"))


def _versioned(rest: str) -> tuple[str, str]:
    """With a version first: names of models may hold slashes, and would swallow it."""
    return f"/v2/models/{{model:path}}/versions/{{version}}{rest}", f"/v2/models/{{model:path}}{rest}"


def _open(
    paths: tuple[str, ...], handler: Any, summary: str, response: type[BaseModel], counted_as: str | None = None
) -> Operation:
    return Operation("GET", paths, handler, summary, response=response, needs_key=False, counted_as=counted_as)


OPERATIONS = (
    Operation(
        "POST",
        ("/v1/models/{model:path}:predict",),
        predict,
        "Embed instances (KServe V1)",
        V1PredictRequest,
        V1PredictResponse,
    ),
    # At / TEI's clients POST: probes must not be taken for theirs, nor what is refused of theirs for probes.
    _open(("/",), health.live, "Liveness (KServe V1)", health.HealthStatus, counted_as="/livez"),
    Operation("GET", ("/v2",), describe_server, "Server metadata (Open Inference)", response=ServerMetadata),
    Operation("GET", ("/v2/models",), list_models, "List the served models (KServe V2)", response=ModelNames),
    _open(("/v2/health/live",), live, "Liveness (Open Inference)", ServerLive),
    _open(("/v2/health/ready",), ready, "Readiness (Open Inference)", ServerReady),
    Operation(
        "POST",
        _versioned("/infer"),
        infer,
        "Embed a tensor of texts (Open Inference)",
        InferRequest,
        InferResponse,
        binary=True,
    ),
    _open(_versioned("/ready"), model_ready, "Readiness of a model (Open Inference)", ModelReady),
    # Last: without its ending it would match the paths above.
    Operation("GET", _versioned(""), describe_model, "Model metadata (Open Inference)", response=ModelMetadata),
)
