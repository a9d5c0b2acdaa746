"""The only table from exceptions to statuses, and what a dialect must know to write an error body."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from service import errors


@dataclass(frozen=True, slots=True)
class Status:
    """One row: the HTTP status, and the names that Google's and OpenAI's bodies use for it."""

    http: int
    google: str
    openai_type: str = "invalid_request_error"
    openai_code: str | None = None


Statuses = Mapping[type[errors.EmbedserveError], Status]

# google: https://cloud.google.com/apis/design/errors (google.rpc.Code). A subclass inherits its parent's row.
STATUSES: Statuses = {
    errors.RequestError: Status(400, "INVALID_ARGUMENT"),
    errors.BodyTooLarge: Status(413, "INVALID_ARGUMENT"),
    errors.SlowBody: Status(408, "DEADLINE_EXCEEDED"),
    errors.TooManyTokens: Status(400, "INVALID_ARGUMENT", "max_tokens_per_request", "max_tokens_per_request"),
    errors.ModelNotFound: Status(404, "NOT_FOUND", openai_code="model_not_found"),
    errors.RouteNotFound: Status(404, "NOT_FOUND"),
    errors.MethodNotAllowed: Status(405, "UNIMPLEMENTED"),
    errors.Unauthenticated: Status(401, "UNAUTHENTICATED"),
    errors.Overloaded: Status(429, "RESOURCE_EXHAUSTED", "tokens", "rate_limit_exceeded"),
    errors.RateLimited: Status(429, "RESOURCE_EXHAUSTED", "tokens", "rate_limit_exceeded"),
    errors.OverRateLimit: Status(429, "RESOURCE_EXHAUSTED", "tokens", "rate_limit_exceeded"),
    errors.Unavailable: Status(503, "UNAVAILABLE", "service_unavailable_error", "server_is_overloaded"),
    errors.DeadlineExceeded: Status(504, "DEADLINE_EXCEEDED", "server_error", "timeout"),
    errors.ClientGone: Status(499, "CANCELLED", "server_error"),
    errors.EmbedserveError: Status(500, "INTERNAL", "server_error"),
}


def status_of(error: errors.EmbedserveError, own: Statuses | None = None) -> Status:
    """The row of the error's class, or of its nearest ancestor that has one; `own` rows come before the table's."""
    rows = own or {}
    return next(rows.get(kind) or STATUSES[kind] for kind in type(error).__mro__ if kind in rows or kind in STATUSES)


def own_statuses(dialect: object) -> Statuses | None:
    """The rows in which a dialect differs from the table: its `STATUSES`, if it has any."""
    return getattr(dialect, "STATUSES", None)


def retry_headers(error: errors.EmbedserveError) -> dict[str, str]:
    """Retry-After is in whole seconds (RFC 9110, 10.2.3); openai-python prefers retry-after-ms, and asks no more where
    x-should-retry says so: 429 it would else try again."""
    if isinstance(error, errors.OverRateLimit):
        return {"x-should-retry": "false"}
    if not isinstance(error, errors.ServerBusy):
        return {}
    return {
        "retry-after": str(max(1, math.ceil(error.retry_after))),
        "retry-after-ms": str(math.ceil(error.retry_after * 1000)),
    }
