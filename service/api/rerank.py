"""/v1/rerank, which Cohere's version 1, Jina, Voyage and vLLM have all put their rerankers at, each in its own words.

Who asks shows in the fields: `top_k` and `truncation` are Voyage's. The others are alike but for what they leave out,
so that their replies are one: Jina's and vLLM's `model` and `usage` beside Cohere's `id` and `meta`. Errors have
Cohere's `message` and the others' `detail`, which say the same.
Different on purpose: a document that is too long is read in parts and as good as the best of them, where others cut it
off; the scores are those that the model's authors give unless `raw_scores` says otherwise; 1,000 documents at most.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal

from pydantic import Field, RootModel

from service.api.cohere import RerankMeta, rerank_meta
from service.api.errors import Status
from service.api.http import Call, Operation, Reply
from service.api.long_input import long_input_headers, long_input_of
from service.api.ranking import Limits, RankFields, Ranking, rank_documents
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.errors import EmbedserveError

NAME = "rerank"

_VOYAGES = frozenset(("top_k", "truncation"))


class RerankRequest(RankFields):
    """Of all of them together. `max_chunks_per_doc` and `max_tokens_per_doc` leave the rest of a document out."""

    rank_fields: Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, min_length=1, max_length=100, description="Cohere 1."
    )
    max_chunks_per_doc: int | None = Field(None, ge=1, description="Cohere 1: parts of a document that are read.")
    max_tokens_per_doc: int | None = Field(None, ge=1, description="Cohere 2: tokens of a document that are read.")
    top_k: int | None = Field(None, ge=1, description="Voyage's word for top_n.")
    truncation: bool | None = Field(None, description="Voyage: true cuts off what is too long, false refuses it.")


class DocumentText(WireModel):
    """What was scored."""

    text: str


class RankedResult(WireModel):
    """`index` is the document's place in the request; the best come first."""

    index: int
    relevance_score: float
    document: DocumentText | None = None


class RankedUsage(WireModel):
    """Tokens that the model read, the query once for each document."""

    total_tokens: int


class RerankResponse(WireModel):
    """Cohere's, Jina's and vLLM's. Documents are there unless `return_documents` is false."""

    id: str
    model: str
    results: list[RankedResult]
    usage: RankedUsage
    meta: RerankMeta


class VoyageRanked(WireModel):
    """The document's text where `return_documents` is true."""

    index: int
    relevance_score: float
    document: str | None = None


class VoyageRerankResponse(WireModel):
    """Voyage's."""

    object: Literal["list"]
    data: list[VoyageRanked]
    model: str
    usage: RankedUsage


class AnyRerankResponse(RootModel[RerankResponse | VoyageRerankResponse]):
    """As the request was."""


class RerankError(WireModel):
    """The same sentence in Cohere's word and in Jina's and Voyage's."""

    message: str
    detail: str


ERROR = RerankError


async def rerank(call: Call) -> Reply:
    """POST /v1/rerank."""
    request = call.parse(RerankRequest)
    limits = Limits(
        long_input_of(request.truncation),
        max_tokens=request.max_tokens_per_doc,
        max_windows=request.max_chunks_per_doc,
    )
    ranking = await rank_documents(call, request, limits, request.rank_fields, request.top_k)
    is_voyages = not _VOYAGES.isdisjoint(request.model_fields_set)
    body = (_voyage if is_voyages else _usual)(ranking, request)
    return Reply(to_json(body), headers=long_input_headers(ranking.result.truncated))


def _usual(ranking: Ranking, request: RerankRequest) -> dict[str, Any]:
    results = [
        {"index": one.place, "relevance_score": one.score}
        | ({} if request.return_documents is False else {"document": {"text": one.text}})
        for one in ranking.best
    ]
    return {
        "id": str(uuid.uuid4()),
        "model": ranking.model.name,
        "results": results,
        "usage": {"total_tokens": ranking.tokens},
        "meta": rerank_meta(ranking, "1"),
    }


def _voyage(ranking: Ranking, request: RerankRequest) -> dict[str, Any]:
    data = [
        {"index": one.place, "relevance_score": one.score}
        | ({"document": one.text} if request.return_documents else {})
        for one in ranking.best
    ]
    usage = {"total_tokens": ranking.tokens}
    return {"object": "list", "data": data, "model": ranking.model.name, "usage": usage}


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """A sentence, twice."""
    return {"message": str(error), "detail": str(error)}


def owns(path: str) -> bool:
    """None but those that there are."""
    return False


OPERATIONS = (
    Operation(
        "POST",
        ("/v1/rerank", "/openai/v1/rerank"),
        rerank,
        "Rank documents by a query (Cohere 1, Jina, Voyage, vLLM)",
        RerankRequest,
        AnyRerankResponse,
    ),
)
