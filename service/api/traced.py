"""What a server span says of a request and its answer, by OpenTelemetry's semantic conventions for HTTP. Pure.

A client's words stay out: a path that is not one of this server's own is left out, and so are queries and headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.types import Scope

from service.types import EmbedResult, ScoreResult, SparseResult, TokenResult

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"})
_FAILED = 500  # by the conventions, a server span is none of an error where the client is to blame


def of_request(scope: Scope, route: str | None, paths: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
    """The span's name, and what is known when it begins. `paths` are those that mean the route."""
    method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
    found = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "network.protocol.name": "http",
        "network.protocol.version": scope["http_version"],
    }
    if scope["path"] in paths:
        found["url.path"] = scope["path"]
    if route is not None:
        found["http.route"] = route
    return " ".join(["HTTP" if method == "_OTHER" else method, *([route] if route else [])]), found


def of_result(result: EmbedResult | ScoreResult | SparseResult | TokenResult, model: str) -> dict[str, Any]:
    """Counts, and of embeddings those of the conventions for generative AI as well, by their names."""
    tokens = sum(result.tokens)
    found: dict[str, Any] = {
        "embedserve.inputs": len(result.tokens),
        "embedserve.tokens": tokens,
        "embedserve.chunks": result.rows,
        "embedserve.computed_tokens": result.computed_tokens,
    }
    if isinstance(result, ScoreResult):
        return found
    found |= {"gen_ai.usage.input_tokens": tokens, "gen_ai.response.model": model}
    if isinstance(result, EmbedResult):
        found["gen_ai.embeddings.dimension.count"] = result.vectors.shape[1]
    return found


def of_model(name: str, is_embedding: bool) -> dict[str, Any]:
    """Of the model that answers, by its served name."""
    found = {"embedserve.model": name}
    if is_embedding:
        found |= {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.provider.name": "embedserve",
            "gen_ai.request.model": name,
        }
    return found


def of_answer(status: int, request_id: str, facts: Mapping[str, object]) -> dict[str, Any]:
    """What the log line says, too."""
    found: dict[str, Any] = {"http.response.status_code": status, "embedserve.request_id": request_id}
    reason = facts.get("reason")
    if reason is not None:
        found["embedserve.reason"] = reason
    if status >= _FAILED:
        found["error.type"] = reason or str(status)
    return found
