"""TEI's routes of models that give scores: /rerank and /predict. Statuses and error bodies are `tei`'s.

Different on purpose: a text that is too long is read in parts unless `truncate` or the model's setting says otherwise;
labels that do not exclude each other (problem_type multi_label_classification) each have a score of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, RootModel, Tag

from service.api import rerank as others
from service.api.http import MAX_ITEMS, Call, Reply
from service.api.long_input import LongInputFields, long_input_headers, long_input_of
from service.api.ranking import Limits, Question, rank, score_request
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.bundle import Activation, Bundle
from service.choices import TruncationSide
from service.errors import EmptyInput, InvalidInput
from service.scoring import activate
from service.types import EmbedResult, Pair, ScoreResult, SparseResult, TokenResult

MODEL = Field(
    None, description="A served model's name (not TEI's, which serves one); absent, the first that answers here."
)

_Side = Literal["Left", "Right", "left", "right"]


class _Options(LongInputFields):
    """truncate: true cuts an over-long input, false refuses it; absent, long_input or the model's setting rules."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = MODEL
    raw_scores: bool | None = Field(None, description="True: logits; otherwise numbers between 0 and 1.")
    truncate: bool | None = None
    truncation_direction: _Side | None = None

    @property
    def limits(self) -> Limits:
        side = self.truncation_direction
        return Limits(long_input_of(self.truncate), None if side is None else TruncationSide(side.lower()))


class TextsToRank(_Options):
    """`documents` in place of `texts` are the question of /v1/rerank, which other servers have on this path."""

    query: str
    texts: Annotated[list[str], Field(fail_fast=True)] | None = Field(None, json_schema_extra={"minItems": 1})
    documents: Any = None
    return_text: bool | None = None


class RankedText(WireModel):
    """`index` is the text's place in the request."""

    index: int
    score: float
    text: str | None = None


class RankedTexts(RootModel[list[RankedText]]):
    """The best first."""


class RankedTextsOrResponse(RootModel[RankedTexts | others.AnyRerankResponse]):
    """As the request was."""


def _form(value: object) -> str:
    """A text, one text or pair in a list, or several of those lists."""
    if not isinstance(value, list):
        return "text"
    return "many" if value and isinstance(value[0], list) else "one"


_One = Annotated[list[str], Field(max_length=2, fail_fast=True, json_schema_extra={"minItems": 1})]
_Inputs = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[_One, Tag("one")]
    | Annotated[list[_One], Field(max_length=MAX_ITEMS, fail_fast=True), Tag("many")],
    Discriminator(_form),
]


class ClassifyRequest(_Options):
    """A text; a pair of texts, as a list of two; or several lists, each of a text or a pair."""

    inputs: _Inputs


class LabelScore(WireModel):
    """One label."""

    score: float
    label: str


class LabelScoresOfInputs(RootModel[list[LabelScore] | list[list[LabelScore]]]):
    """Of each input all labels, the likeliest first; in one list where there was one input."""


class Labels(WireModel):
    """In the order of the logits."""

    id2label: dict[str, str]
    label2id: dict[str, int]


def labels_of(bundle: Bundle) -> dict[str, Any]:
    """`Labels`."""
    names = list(enumerate(bundle.labels))
    return {"id2label": {str(i): name for i, name in names}, "label2id": {name: i for i, name in names}}


async def rerank(call: Call) -> Reply:
    """POST /rerank."""
    request = call.parse(TextsToRank)
    if request.texts is None and request.documents is not None:
        return await others.rerank(call)
    if request.texts is None:
        raise InvalidInput("texts: Field required", "texts")
    if not request.texts:
        raise EmptyInput("`texts` cannot be empty", "texts")
    call.check_count(len(request.texts), "texts")
    question = Question(request.query, request.texts)
    model = call.find_model(request.model, "ranking")
    ranking = await rank(call, model, question, request, request.limits, raw=request.raw_scores is True)
    body = [
        {"index": one.place, "score": one.score} | ({"text": one.text} if request.return_text else {})
        for one in ranking.best
    ]
    return Reply(to_json(body), headers=usage_headers(ranking.result, [request.query, *request.texts]))


async def predict(call: Call) -> Reply:
    """POST /predict."""
    request = call.parse(ClassifyRequest)
    found, headers = await _predicted(call, request, "identity" if request.raw_scores else None)
    return Reply(to_json(found if _form(request.inputs) == "many" else found[0]), headers=headers)


async def _predicted(
    call: Call, request: ClassifyRequest, activation: Activation | None
) -> tuple[list[list[dict[str, Any]]], dict[str, str]]:
    """Of each input all labels, the likeliest first; and the reply's headers."""
    model = call.find_model(request.model, "score")
    inputs = _listed(request.inputs)
    call.check_count(len(inputs), "inputs")
    pairs = [Pair(*one) for one in inputs]
    result = await model.scorer.score(score_request(pairs, request, request.limits), call.deadline)
    call.count(result)
    labels, activation = model.bundle.labels, activation or model.bundle.probabilities
    found = [
        [{"label": labels[i], "score": row[i]} for i in (-row).argsort(kind="stable").tolist()]
        for row in activate(result.logits, activation)
    ]
    return found, usage_headers(result, [text for one in inputs for text in one])


class HubParameters(WireModel):
    """Of Hugging Face's InferenceClient."""

    function_to_apply: Literal["none", "sigmoid", "softmax"] | None = None
    top_k: int | None = Field(None, ge=1)


class HubClassifyRequest(ClassifyRequest):
    """What Hugging Face's InferenceClient sends, which reads the first of several lists."""

    parameters: HubParameters


_FUNCTIONS: dict[str | None, Activation | None] = {"none": "identity", "sigmoid": "sigmoid", "softmax": "softmax"}


async def _hub(call: Call) -> Reply:
    request = call.parse(HubClassifyRequest)
    asked = request.parameters
    found, headers = await _predicted(call, request, _FUNCTIONS.get(asked.function_to_apply))
    return Reply(to_json([one[: asked.top_k] for one in found]), headers=headers)


class _Either(WireModel):
    inputs: Any = None
    parameters: Any = None


async def infer(call: Call) -> Reply:
    """POST /, of such a model: with `inputs` what /predict takes, else what /rerank takes."""
    asked = call.parse(_Either)
    if asked.inputs is None:
        return await rerank(call)
    return await (predict if asked.parameters is None else _hub)(call)


def _listed(inputs: str | list[str] | list[list[str]]) -> list[list[str]]:
    """Raises EmptyInput."""
    many: list[Any] = inputs if _form(inputs) == "many" else [[inputs] if isinstance(inputs, str) else inputs]  # type: ignore[assignment]
    if not many or [] in many:
        raise EmptyInput("`inputs` cannot be empty", "inputs")
    return many


def usage_headers(
    result: EmbedResult | SparseResult | TokenResult | ScoreResult, texts: Sequence[str]
) -> dict[str, str]:
    """TEI's bodies have no room for usage."""
    return {
        "x-compute-characters": str(sum(map(len, texts))),
        "x-compute-tokens": str(sum(result.tokens)),
        **long_input_headers(result.truncated, result.late if isinstance(result, EmbedResult) else ()),
    }
