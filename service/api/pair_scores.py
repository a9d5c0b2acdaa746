"""vLLM's /score: scores of pairs, in the order in which they came. Errors are OpenAI's, as vLLM's are, but with
reasons of their own."""

from __future__ import annotations

import time
import uuid
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from service.api import openai
from service.api.http import MAX_ITEMS, Call, Operation, Reply
from service.api.long_input import LongInputFields, long_input_headers
from service.api.ranking import Limits, score_request
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.choices import LongInput
from service.errors import EmptyInput, InvalidInput
from service.types import Pair

NAME = "vllm"
ERROR = openai.ERROR
error_body = openai.error_body_elsewhere

_Texts = str | Annotated[list[str], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]


class ScorePairsRequest(LongInputFields):
    """One text with one or many, or as many as there are on the other side. `return_chunks` and `late` are refused."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    text_1: _Texts
    text_2: _Texts
    truncate_prompt_tokens: Literal[-1] | None = Field(None, description="-1 cuts off what is too long.")
    use_activation: bool | None = Field(
        None, description="False: logits. True: between 0 and 1. Absent: as the model's authors have it."
    )


class PairScore(WireModel):
    """`index` is the pair's place in the request."""

    index: int
    object: Literal["score"]
    score: float


class PairUsage(WireModel):
    """Tokens that the model read."""

    prompt_tokens: int
    total_tokens: int


class PairScores(WireModel):
    """vLLM's."""

    id: str
    object: Literal["list"]
    created: int
    model: str
    data: list[PairScore]
    usage: PairUsage


async def score(call: Call) -> Reply:
    """POST /score."""
    request = call.parse(ScorePairsRequest)
    model = call.find_model(request.model, "ranking")
    scorer = model.ranker
    pairs = _pairs(request)
    call.check_count(len(pairs), "text_2")
    limits = Limits(None if request.truncate_prompt_tokens is None else LongInput.TRUNCATE)
    result = await scorer.score(score_request(pairs, request, limits), call.deadline)
    call.count(result)
    raw = None if request.use_activation is None else not request.use_activation
    scores = scorer.scores(result.logits, raw=raw)[:, 0]
    tokens = sum(result.tokens)
    body: dict[str, Any] = {
        "id": f"score-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model.name,
        "data": [{"index": i, "object": "score", "score": one} for i, one in enumerate(scores)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
    return Reply(to_json(body), headers=long_input_headers(result.truncated))


def _pairs(request: ScorePairsRequest) -> list[Pair]:
    """Raises InvalidInput where the sides do not match, EmptyInput for an empty first text."""
    firsts, seconds = ([side] if isinstance(side, str) else side for side in (request.text_1, request.text_2))
    if len(firsts) == 1:
        firsts = firsts * len(seconds)
    if len(firsts) != len(seconds):
        raise InvalidInput(f"text_1 has {len(firsts)} texts, text_2 has {len(seconds)}.", "text_1")
    if not all(text.strip() for text in firsts):
        raise EmptyInput("text_1 must not be empty", "text_1")
    return list(map(Pair, firsts, seconds))


def owns(path: str) -> bool:
    """None but its own."""
    return False


OPERATIONS = (
    Operation(
        "POST",
        ("/score", "/v1/score"),
        score,
        "Score pairs of texts (vLLM)",
        ScorePairsRequest,
        PairScores,
    ),
)
