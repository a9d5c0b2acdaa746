"""What the dialects of reranking have in common: a query, documents, the best of them first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import ConfigDict, FailFast, Field

from service.api.http import MAX_ITEMS, Call
from service.api.long_input import LongInputFields, with_wishes, without_chunks
from service.choices import LongInput, TruncationSide
from service.errors import EmptyInput, InvalidInput, TooManyInputs
from service.model import Model
from service.types import EmbedRequest, Pair, ScoreRequest, ScoreResult

MAX_DOCUMENTS = 1_000
"""Cohere's and Voyage's limit."""

Document = str | dict[str, Any]


class RankFields(LongInputFields):
    """What all of them ask. An object among `documents` has its text under `text`, or under `rank_fields`.

    A document that is too long beside the query is as good as its best part, unless `long_input` says otherwise.
    `return_chunks` and `late` are refused.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str | None = Field(None, description="A served model's name; missing or null means the default one.")
    query: str
    documents: Annotated[list[Document], FailFast()] = Field(
        max_length=MAX_ITEMS, json_schema_extra={"minItems": 1, "maxItems": MAX_DOCUMENTS}
    )
    top_n: int | None = Field(None, ge=1, description="How many of the best are returned; all, where absent.")
    return_documents: bool | None = None
    raw_scores: bool | None = Field(
        None,
        description="True: logits. False: between 0 and 1. Absent: as the model's authors have it, which for most is "
        "between 0 and 1.",
    )


class Question(NamedTuple):
    """What is asked, and of which texts. An empty text is scored as any other; an empty query says nothing."""

    query: str
    texts: Sequence[str]


class Ranked(NamedTuple):
    """One of the documents: its place in the request, and what of it was scored."""

    place: int
    score: np.float32
    text: str


class Ranking(NamedTuple):
    """`best` first, and what it took."""

    model: Model
    best: Sequence[Ranked]
    result: ScoreResult

    @property
    def tokens(self) -> int:
        """That the model read, the query once for each document."""
        return sum(self.result.tokens)


class Limits(NamedTuple):
    """What of each document is read at most, and what becomes of one that is too long; None: as settings say."""

    long_input: LongInput | None = None
    side: TruncationSide | None = None
    max_tokens: int | None = None
    max_windows: int | None = None


async def rank(
    call: Call,
    model: Model,
    question: Question,
    fields: LongInputFields,
    limits: Limits,
    *,
    raw: bool | None = None,
    top: int | None = None,
) -> Ranking:
    """Raises WrongTask, EmptyInput, and what Scorer.score raises. `raw` as in Scorer.scores."""
    scorer = model.ranker
    if not question.query.strip():
        raise EmptyInput("query must not be empty", "query")
    pairs = [Pair(question.query, text) for text in question.texts]
    result = await scorer.score(score_request(pairs, fields, limits), call.deadline)
    call.count(result)
    scores = scorer.scores(result.logits, raw=raw)[:, 0]
    # By logits, as what is between 0 and 1 may be alike where they are not.
    order = np.argsort(-result.logits[:, 0], kind="stable")[:top]
    return Ranking(model, [Ranked(i, scores[i], question.texts[i]) for i in order.tolist()], result)


async def rank_documents(
    call: Call, request: RankFields, limits: Limits, rank_fields: Sequence[str] | None = None, top: int | None = None
) -> Ranking:
    """Raises InvalidInput, EmptyInput, TooManyInputs, and what `rank` raises."""
    model = call.find_model(request.model, "ranking")
    texts = texts_of(request.documents, rank_fields)
    if not texts:
        raise EmptyInput("documents must not be empty", "documents")
    if len(texts) > MAX_DOCUMENTS:
        raise TooManyInputs(MAX_DOCUMENTS, len(texts), "documents")
    question = Question(request.query, texts)
    return await rank(call, model, question, request, limits, raw=request.raw_scores, top=request.top_n or top)


def score_request(pairs: Sequence[Pair], fields: LongInputFields, limits: Limits) -> ScoreRequest:
    """Raises InvalidInput where the fields contradict each other, or ask for what scores do not have."""
    own = EmbedRequest([], long_input=limits.long_input, truncation_side=limits.side)
    wanted = without_chunks(with_wishes(own, fields))
    if wanted.late:
        raise InvalidInput("Scores have no late chunking.", "late")
    how = wanted.long_input, wanted.truncation_side, wanted.chunking
    return ScoreRequest(pairs, *how, limits.max_tokens, limits.max_windows)


def texts_of(documents: Iterable[Document], rank_fields: Sequence[str] | None = None) -> list[str]:
    """What of each document is scored: the text itself, or its fields' values line by line. Raises InvalidInput."""
    names = rank_fields or ("text",)
    return [
        one if isinstance(one, str) else "\n".join(_value(one, name, i) for name in names)
        for i, one in enumerate(documents)
    ]


def _value(document: dict[str, Any], name: str, index: int) -> str:
    found = document.get(name)
    if not isinstance(found, str):
        raise InvalidInput(f"documents.{index} has no text in its field {name!r}", "documents")
    return found
