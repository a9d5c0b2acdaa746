"""The dialect of Hugging Face's text-embeddings-inference (TEI), and of its InferenceClient, which posts to "/".

Shapes: TEI's docs/openapi.json and the fields its router reads (1.9). Statuses: the document's, 413 for what is too
much and 422 for what is wrong; TEI itself answered 413 to both up to 1.8, and 422 since.
Different on purpose: where `truncate` is absent, the model's setting for long inputs rules; an empty text is embedded
unless the model is strict; `dimensions` must be a size the model was trained for; a model whose last step is a
normalisation stays normalised; token ids outside the vocabulary are refused, not left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

import service
from service.api import tei_scores
from service.api.errors import Status
from service.api.http import Call, Operation, Reply, json_reply
from service.api.long_input import (
    LongInputFields,
    long_input_of,
    with_wishes,
    without_chunks,
)
from service.api.tei_scores import usage_headers
from service.api.wire import as_numbers, as_weights, in_turns, lists_in_turns, rows_in_turns, to_json
from service.api.wire_model import WireModel
from service.bundle import Bundle, Role
from service.choices import LongInput, TokenIds, TruncationSide
from service.errors import (
    BodyTooLarge,
    EmbedserveError,
    EmptyInput,
    InferenceError,
    InputTooLong,
    InvalidInput,
    MalformedBody,
    Overloaded,
    OverRateLimit,
    RateLimited,
    RequestError,
    TooManyChunks,
    TooManyInputs,
    TooManyTokens,
    Unavailable,
    WrongTask,
)
from service.model import Model
from service.types import Chunking, EmbedRequest, EmbedResult, Input

NAME = "tei"

# Where TEI's statuses are not those of `service.api.errors`.
STATUSES = {
    EmptyInput: Status(400, "INVALID_ARGUMENT"),
    MalformedBody: Status(400, "INVALID_ARGUMENT"),
    TooManyInputs: Status(413, "INVALID_ARGUMENT"),
    InputTooLong: Status(413, "INVALID_ARGUMENT"),
    TooManyTokens: Status(413, "INVALID_ARGUMENT"),
    TooManyChunks: Status(413, "INVALID_ARGUMENT"),
    InferenceError: Status(424, "INTERNAL"),
    WrongTask: Status(424, "INTERNAL"),
    RequestError: Status(422, "INVALID_ARGUMENT"),
}

# A subclass inherits its parent's.
_TYPES = {
    EmptyInput: "Empty",
    WrongTask: "Backend",
    RequestError: "Validation",
    Overloaded: "Overloaded",
    RateLimited: "Overloaded",
    OverRateLimit: "Overloaded",
    Unavailable: "Unhealthy",
    EmbedserveError: "Backend",
}


# --- what comes in --------------------------------------------------------------------------------------------


def _kind(value: object) -> str:
    """Which of the forms of `inputs` or `ids` something means to be; decided by the first element of a list."""
    if isinstance(value, dict):
        return "sentences"
    if not isinstance(value, list):
        return "text"
    return "ids" if value and type(value[0]) is int else "many"


def _kind_of_element(value: object) -> str:
    return "ids" if isinstance(value, list) else "text"


_Text = Annotated[str, Tag("text")]
# Empty lists have a type of error to themselves, so they are refused by hand; the document has it that way.
_NOT_EMPTY = Field(json_schema_extra={"minItems": 1}, fail_fast=True)
_Ids = Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], _NOT_EMPTY, Tag("ids")]
_Texts = Annotated[list[Annotated[_Text | _Ids, Discriminator(_kind_of_element)]], _NOT_EMPTY, Tag("many")]
_Inputs = Annotated[_Text | _Ids | _Texts, Discriminator(_kind)]


class _Schema(WireModel):
    """Unknown fields are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Options(LongInputFields, _Schema):
    """truncate: true cuts an over-long input, false refuses it; absent, long_input or else the model's setting rules.

    `return_chunks` is refused, as the replies are nothing but vectors.
    """

    model: str | None = tei_scores.MODEL
    truncate: bool | None = None
    truncation_direction: Literal["Left", "Right", "left", "right"] | None = None
    prompt_name: str | None = Field(None, description="One of the model's prompts; absent, its default one.")


class EmbedAllRequest(Options):
    """A text, token ids of the model's own vocabulary, or several of either. /embed_all makes no chunks of them."""

    inputs: _Inputs


class EmbedSparseRequest(EmbedAllRequest):
    """As above; /embed_sparse takes for each token the largest weight of an input's chunks."""


class EmbedTextsRequest(EmbedAllRequest):
    """As above."""

    normalize: bool | None = None
    dimensions: int | None = Field(None, ge=1)


class Sentences(_Schema):
    """One that all others are compared with."""

    source_sentence: str
    sentences: Annotated[list[str], _NOT_EMPTY]


class SimilarityRequest(_Schema):
    """`parameters` may be left out."""

    model: str | None = tei_scores.MODEL
    inputs: Sentences
    parameters: Options | None = None


class _Named(_Schema):
    model: str | None = None


class RootRequest(EmbedTextsRequest):
    """What /embed takes; or what /similarity takes, where `inputs` is an object."""

    inputs: Annotated[  # type: ignore[assignment]  # one form more
        _Text | _Ids | _Texts | Annotated[Sentences, Tag("sentences")], Discriminator(_kind)
    ]
    parameters: Options | None = None


class TokenizeRequest(_Schema):
    """The tokens of the prompt are in the reply, as the model reads them."""

    model: str | None = tei_scores.MODEL
    inputs: Annotated[
        _Text | Annotated[list[str], _NOT_EMPTY, Tag("many")], Discriminator(lambda value: _many_or(value, "text"))
    ]
    add_special_tokens: bool | None = None
    prompt_name: str | None = None


class DecodeRequest(_Schema):
    """Token ids of the model's own vocabulary."""

    model: str | None = tei_scores.MODEL
    ids: Annotated[_Ids | Annotated[list[_Ids], _NOT_EMPTY, Tag("many")], Discriminator(_kind)]
    skip_special_tokens: bool | None = None


def _many_or(value: object, other: str) -> str:
    return "many" if isinstance(value, list) else other


# --- what goes out --------------------------------------------------------------------------------------------


class Vectors(RootModel[list[list[float]]]):
    """One vector per input, in their order."""


class TokenVectors(RootModel[list[list[list[float]]]]):
    """One vector per token."""


class Weight(WireModel):
    """That of a token of the model's vocabulary, in an input that holds it or means it."""

    index: int
    value: float


class SparseVectors(RootModel[list[list[Weight]]]):
    """Those weights of each input that are not 0, by rising index."""


class Scores(RootModel[list[float]]):
    """One cosine per sentence, in their order."""


class VectorsOrScores(
    RootModel[list[list[float]] | list[float] | tei_scores.LabelScoresOfInputs | tei_scores.RankedTexts]
):
    """As the request was."""


class Token(WireModel):
    """`start` and `stop` are bytes of the prompt and the text in UTF-8; null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class Tokens(RootModel[list[list[Token]]]):
    """Those of each input."""


class Texts(RootModel[list[str]]):
    """One per array of token ids."""


class EmbeddingModel(WireModel):
    """How token vectors become one."""

    pooling: str


class ModelType(WireModel):
    """One of the three; a classifier of one label is a reranker."""

    embedding: EmbeddingModel | None = None
    reranker: tei_scores.Labels | None = None
    classifier: tei_scores.Labels | None = None


class Info(WireModel):
    """The default model, and this server's limits in TEI's words.

    `max_concurrent_requests` is the number of tokens that may wait, as there is no limit on requests;
    `auto_truncate` says that an over-long input is taken. `similarity_fn_name` is not TEI's: what the model's authors
    compare its vectors with, if they say.
    """

    model_id: str
    model_sha: str | None
    model_dtype: str
    served_model_name: str
    model_type: ModelType
    similarity_fn_name: Literal["cosine", "dot", "euclidean", "manhattan"] | None
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
    sha: str | None
    docker_label: str | None


class Health(WireModel):
    """Empty when all is well, an error when not."""

    error: str | None = None
    error_type: str | None = None


class TeiError(WireModel):
    """TEI's error body; Validation stands for every mistake of a client's that has no type of its own."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]


ERROR = TeiError


# --- embedding ------------------------------------------------------------------------------------------------


async def embed(call: Call) -> Reply:
    """POST /embed."""
    return await _embed_reply(call, call.parse(EmbedTextsRequest))


async def similarity(call: Call) -> Reply:
    """POST /similarity."""
    request = call.parse(SimilarityRequest)
    return await _similarity_reply(call, request, request.inputs)


async def infer(call: Call) -> Reply:
    """POST /."""
    if call.find_model(call.parse(_Named).model).bundle.task == "score":
        return await tei_scores.infer(call)
    request = call.parse(RootRequest)
    if isinstance(request.inputs, Sentences):
        return await _similarity_reply(call, request, request.inputs)
    return await _embed_reply(call, request)


async def embed_all(call: Call) -> Reply:
    """POST /embed_all."""
    request = call.parse(EmbedAllRequest)
    model = call.find_model(request.model, "embedding", "tokens")
    if model.bundle.task == "tokens":
        return await _late_reply(call, model, request)
    texts = await _texts(call, model, request.inputs)
    wanted = _request(model, texts, request)
    if wanted.chunking != Chunking() or wanted.late or wanted.long_input is LongInput.CHUNK:
        raise InvalidInput("/embed_all reads an input as a whole; it cuts or refuses one that is too long.", "inputs")
    result = await model.embedder.embed_tokens(wanted, call.deadline)
    call.count(result)
    return json_reply(await in_turns(result.states, as_numbers), usage_headers(result, texts))


async def _late_reply(call: Call, model: Model, request: EmbedAllRequest) -> Reply:
    """Of a model that tells queries from documents: by the prompt's name, without which a text is a document."""
    embedder, name = model.late_embedder, request.prompt_name
    role: Role = "query" if name == "query" else "document"
    prompt = embedder.role_prompt(role) if name in (None, role) else _prompt(model, name)
    texts = await _texts(call, model, request.inputs)
    wanted = _request(model, texts, request.model_copy(update={"prompt_name": None}))
    wanted = wanted._replace(inputs=[Input(text, prompt) for text in texts])
    result = await embedder.embed(wanted, role, call.deadline)
    call.count(result)
    return json_reply(await in_turns(result.states, as_numbers), usage_headers(result, texts))


async def embed_sparse(call: Call) -> Reply:
    """POST /embed_sparse."""
    request = call.parse(EmbedSparseRequest)
    model = call.find_model(request.model, "sparse")
    embedder = model.sparse_embedder
    texts = await _texts(call, model, request.inputs)
    result = await embedder.embed(_request(model, texts, request), call.deadline)
    call.count(result)
    weights = await lists_in_turns(as_weights(one) for one in result.vectors)
    return json_reply(weights, usage_headers(result, texts))


async def _embed_reply(call: Call, request: EmbedTextsRequest) -> Reply:
    model = call.find_model(request.model, "embedding")
    texts = await _texts(call, model, request.inputs)
    normalize = request.normalize is not False
    result = await _embed(call, model, texts, request, dimensions=request.dimensions, normalize=normalize)
    (rows,) = await rows_in_turns([result.vectors], as_numbers)
    return json_reply(rows, usage_headers(result, texts))


async def _similarity_reply(call: Call, request: SimilarityRequest | RootRequest, inputs: Sentences) -> Reply:
    if not inputs.sentences:
        raise EmptyInput("`inputs.sentences` cannot be empty", "inputs")
    model = call.find_model(request.model, "embedding")
    texts = [inputs.source_sentence, *inputs.sentences]
    call.check_count(len(texts), "inputs")
    result = await _embed(call, model, texts, request.parameters or Options(), normalize=True)
    return Reply(to_json(np.clip(result.vectors[1:] @ result.vectors[0], -1, 1)), headers=usage_headers(result, texts))


async def _embed(
    call: Call, model: Model, texts: Sequence[str], options: Options, *, normalize: bool, dimensions: int | None = None
) -> EmbedResult:
    request = _request(model, texts, options)._replace(dimensions=dimensions, normalize=normalize)
    result = await model.embedder.embed(request, call.deadline)
    call.count(result)
    return result


def _request(model: Model, texts: Sequence[str], options: Options) -> EmbedRequest:
    prompt = _prompt(model, options.prompt_name)
    side = options.truncation_direction
    own = EmbedRequest(
        [Input(text, prompt) for text in texts],
        long_input=long_input_of(options.truncate),
        truncation_side=None if side is None else TruncationSide(side.lower()),
    )
    return without_chunks(with_wishes(own, options))


async def _texts(call: Call, model: Model, inputs: str | list[int] | list[str | list[int]]) -> list[str]:
    """Token ids are the model's own here, whatever `token_ids` says of OpenAI's; as TEI does, they become text."""
    many: list[Any] = inputs if isinstance(inputs, list) and _kind(inputs) == "many" else [inputs]
    if not many or [] in many:
        raise EmptyInput("`inputs` cannot be empty", "inputs")
    call.check_count(len(many), "inputs")
    ids = [one for one in many if isinstance(one, list)]
    if not ids:
        return many
    if model.reader.settings.token_ids is TokenIds.REJECT:
        raise InvalidInput("This model takes texts, not token ids.", "inputs")
    decoded = iter(await model.reader.decode(ids, skip_special_tokens=True, deadline=call.deadline))
    return [next(decoded) if isinstance(one, list) else one for one in many]


def _prompt(model: Model, name: str | None) -> str:
    """Clients read the names of the prompts from this very sentence. Raises InvalidInput."""
    prompts = model.bundle.prompts
    if name is not None and name not in prompts:
        known = ", ".join(f'"{one}"' for one in prompts)
        raise InvalidInput(f"`prompt_name` is not one of the model's. Available prompts: [{known}]", "prompt_name")
    return model.reader.prompt(name)


# --- tokens ---------------------------------------------------------------------------------------------------


async def tokenize(call: Call) -> Reply:
    """POST /tokenize."""
    request = call.parse(TokenizeRequest)
    model = call.find_model(request.model)
    texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
    if not texts:
        raise EmptyInput("`inputs` cannot be empty", "inputs")
    call.check_count(len(texts), "inputs")
    prompt = _prompt(model, request.prompt_name)
    special = request.add_special_tokens is not False
    tokens = await model.reader.tokenize(texts, prompt, special, call.deadline)
    return json_reply(await lists_in_turns(tokens), {})


async def decode(call: Call) -> Reply:
    """POST /decode."""
    request = call.parse(DecodeRequest)
    model = call.find_model(request.model)
    many: list[Any] = request.ids if _kind(request.ids) == "many" else [request.ids]
    if not many:
        raise EmptyInput("`ids` cannot be empty", "ids")
    call.check_count(len(many), "inputs")
    skip_special = request.skip_special_tokens is not False
    return Reply(to_json(await model.reader.decode(many, skip_special, call.deadline)))


# --- the server -----------------------------------------------------------------------------------------------


async def info(call: Call) -> Reply:
    """GET /info, or /info?model=NAME."""
    model = call.find_model(call.query.get("model"))
    bundle, settings = model.bundle, model.reader.settings
    return Reply(
        to_json(
            {
                "model_id": bundle.model_id,
                "model_sha": None,
                "model_dtype": {"fp32": "float32"}.get(bundle.precision, bundle.precision),
                "served_model_name": model.name,
                "model_type": _model_type(bundle),
                "similarity_fn_name": bundle.similarity_fn_name,
                "max_concurrent_requests": settings.max_queue_tokens,
                "max_input_length": bundle.max_seq_length,
                "max_batch_tokens": model.max_batch_tokens,
                "max_batch_requests": None,
                "max_client_batch_size": call.service.settings.max_inputs,
                "auto_truncate": settings.long_input is not LongInput.REJECT,
                "tokenization_workers": 1,
                "version": service.__version__,
                "sha": None,
                "docker_label": None,
            }
        )
    )


def _model_type(bundle: Bundle) -> dict[str, Any]:
    if bundle.task != "score":
        return {"embedding": {"pooling": bundle.pooling or "unknown"}}
    return {"reranker" if bundle.dimensions == 1 else "classifier": tei_scores.labels_of(bundle)}


async def health(call: Call) -> Reply:
    """GET /health: readiness, as TEI's is."""
    if call.service.registry.ready:
        return Reply(to_json({}))
    return Reply(to_json({"error": "unhealthy", "error_type": "Unhealthy"}), 503)


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """A sentence and a type."""
    kind = next(_TYPES[kind] for kind in type(error).__mro__ if kind in _TYPES)
    return {"error": _message(error), "error_type": kind}


def _message(error: EmbedserveError) -> str:
    match error:
        case InputTooLong():
            return f"Input validation error: `inputs` must have less than {error.limit} tokens. Given: {error.actual}"
        case TooManyInputs():
            return f"batch size {error.actual} > maximum allowed batch size {error.limit}"
        case EmptyInput() | BodyTooLarge():
            return str(error)
        case InvalidInput():
            return f"Input validation error: {error}"
        case Overloaded():
            return "Model is overloaded"
        case WrongTask() if error.asked in _NOT_ITS_TASK:
            return f"Backend error: {_NOT_ITS_TASK[error.asked]}. {error}"
    return str(error)


# TEI's words for what a model does not give, before ours.
_NOT_ITS_TASK = {
    "embeddings": "Model is not an embedding model",
    "sparse vectors": "Model is not an embedding model with SPLADE pooling",
    "ranking": "model is not a re-ranker model",
    "scores": "Model is not a classifier model",
}


def owns(path: str) -> bool:
    """TEI's route of Vertex's shapes, which `vertex` has in its own place."""
    return path == "/vertex"


def _post(path: str, handler: Any, summary: str, request: type[BaseModel], response: type[BaseModel]) -> Operation:
    return Operation("POST", (path,), handler, f"{summary} (TEI)", request, response)


OPERATIONS = (
    _post("/embed", embed, "Embed texts or token ids", EmbedTextsRequest, Vectors),
    _post("/embed_all", embed_all, "One vector per token, special tokens included", EmbedAllRequest, TokenVectors),
    _post("/embed_sparse", embed_sparse, "Weights of the vocabulary's tokens", EmbedSparseRequest, SparseVectors),
    _post(
        "/rerank",
        tei_scores.rerank,
        "Rank texts by a query",
        tei_scores.TextsToRank,
        tei_scores.RankedTextsOrResponse,
    ),
    _post(
        "/predict",
        tei_scores.predict,
        "Labels of texts or pairs",
        tei_scores.ClassifyRequest,
        tei_scores.LabelScoresOfInputs,
    ),
    _post("/similarity", similarity, "Compare one sentence with others", SimilarityRequest, Scores),
    _post("/", infer, "What the model is for, as Hugging Face's InferenceClient asks", RootRequest, VectorsOrScores),
    _post("/tokenize", tokenize, "The model's tokens of texts", TokenizeRequest, Tokens),
    _post("/decode", decode, "The texts of token ids", DecodeRequest, Texts),
    Operation("GET", ("/info",), info, "What is served (TEI)", response=Info),
    Operation("GET", ("/health",), health, "Readiness (TEI)", response=Health, needs_key=False),
)
