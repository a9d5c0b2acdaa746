"""Every error the project raises on purpose.

    EmbedserveError
    ├── StartupError             the process cannot start or the command cannot finish: reason + remedy
    │   ├── BundleError              a bundle is missing, corrupt or of another format
    │   ├── CheckHangs               golden texts do not come out of the runtime
    │   ├── CheckpointError          a checkpoint cannot be compiled: what was not understood
    │   │   └── TargetUnsupported    not for that kind of device
    │   └── SourceError              a checkpoint could not be fetched
    ├── RequestError             the client can mend it: never worth retrying as it stands
    │   ├── InvalidInput             a field is of the wrong type, out of range
    │   │   └── EmptyInput               there is nothing to embed
    │   ├── MalformedBody            the body is not JSON
    │   ├── BodyTooLarge             more bytes than the server reads
    │   ├── SlowBody                 the body did not arrive in time
    │   ├── TooManyInputs            more texts than one request may hold
    │   ├── InputTooLong             one text over the model's limit where the model rejects
    │   ├── TooManyTokens            one request over the limit of tokens
    │   ├── TooManyChunks            its inputs make more chunks than one request may have
    │   ├── DimensionsUnsupported    the model was not trained for shortened vectors
    │   ├── ModelNotFound            no model of that name is served
    │   ├── WrongTask                the model gives something else than what is asked for
    │   ├── LoadFailed               a model could not be loaded at run time; what was served still is
    │   ├── RouteNotFound            no such path
    │   ├── MethodNotAllowed         the path exists, the method does not
    │   ├── Unauthenticated          no key, or a wrong one
    │   └── OverRateLimit            one request is more than its key may have in a minute
    ├── ServerBusy               worth retrying after `retry_after` seconds
    │   ├── Overloaded               more is waiting, or held, than may be
    │   ├── RateLimited              its key has had what it may have for now
    │   └── Unavailable              loading, or draining before exit
    ├── DeadlineExceeded         the request waited longer than it was allowed to
    ├── ClientGone               the client closed the connection: nobody reads the answer
    └── InferenceError           the runtime failed on this very request
        └── BadVectors               or gave what is no vector

`service.api.errors` holds the one table that turns them into statuses; no other place knows a status code.
Every class names itself to metrics and logs by `reason`, so a label never carries a user's text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

_SHOWN = 200  # characters of a name that there is not


class EmbedserveError(Exception):
    """Base of all; `str()` is fit for the person who caused it."""

    reason: ClassVar[str] = "internal"


class StartupError(EmbedserveError):
    """Why the process cannot start, and what to do about it, in one line each."""

    reason = "startup"

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}\n  → {remedy}")
        self.message = message
        self.remedy = remedy


class BundleError(StartupError):
    """A bundle is missing, corrupt or of a format this version does not run; `folder` is where it lies, once known."""

    folder: Path | None = None


class CheckHangs(StartupError):
    """A model's golden texts do not come out of the runtime; `goes_on` says whether a thread still waits for them."""

    def __init__(self, seconds: float, goes_on: Callable[[], bool]) -> None:
        super().__init__(
            f"the runtime was asked for its golden texts, and has not answered for {seconds:g} s",
            "restart the server when it suits: what hangs cannot be ended, and keeps its memory",
        )
        self.goes_on = goes_on


class CheckpointError(StartupError):
    """A checkpoint holds something the compiler does not understand, and it does not guess."""


class TargetUnsupported(CheckpointError):
    """A checkpoint can be compiled for the CPU, and not for the device it was to be compiled for."""


class SourceError(StartupError):
    """A checkpoint could not be fetched, or what came is not what was asked for."""


class RequestError(EmbedserveError):
    """The client's mistake; `param` is the JSON field to blame, when there is one."""

    reason = "invalid_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


class InvalidInput(RequestError):
    """A field is missing, of the wrong type, empty or out of range."""

    reason = "invalid_input"


class EmptyInput(InvalidInput):
    """There is nothing to embed."""


class MalformedBody(RequestError):
    """The body is not JSON in UTF-8."""

    reason = "malformed_body"


class BodyTooLarge(RequestError):
    """The body has more bytes than `max_body_bytes`."""

    reason = "body_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The request body is larger than the limit of {limit} bytes.")
        self.limit = limit


class SlowBody(RequestError):
    """The body came more slowly than `client_timeout` lets one, not within `request_timeout`, or had to make room
    for others."""

    reason = "slow_body"

    def __init__(self) -> None:
        super().__init__("The request body did not arrive in time.")


class TooManyInputs(RequestError):
    """More inputs than one request of this dialect may hold."""

    reason = "too_many_inputs"

    def __init__(self, limit: int, actual: int, param: str) -> None:
        super().__init__(f"{limit} inputs are allowed per request, {actual} were sent.", param)
        self.limit = limit
        self.actual = actual


class InputTooLong(RequestError):
    """One input is longer than the model reads, and the model (or the request) rejects such input."""

    reason = "input_too_long"

    def __init__(self, limit: int, actual: int, param: str | None = "input") -> None:
        super().__init__(f"The input has {actual} tokens; it may have {limit}.", param)
        self.limit = limit
        self.actual = actual


class TooManyTokens(RequestError):
    """The inputs of one request together are over the limit."""

    reason = "too_many_tokens"

    def __init__(self, limit: int, actual: int, *, or_more: bool = False) -> None:
        """`or_more`: they were not all counted."""
        more = "more than " if or_more else ""
        super().__init__(f"Requested {more}{actual} tokens, max {limit} tokens per request", "input")
        self.limit = limit
        self.actual = actual


class TooManyChunks(RequestError):
    """The inputs of one request make more chunks than it may have."""

    reason = "too_many_chunks"

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The inputs make more than {limit} chunks; send fewer of them, or ask for larger chunks.", "input"
        )
        self.limit = limit


class DimensionsUnsupported(RequestError):
    """Shortened vectors were asked of a model that was not trained for that length."""

    reason = "dimensions_unsupported"

    def __init__(self, requested: int, allowed: tuple[int, ...]) -> None:
        sizes = ", ".join(map(str, allowed))
        super().__init__(f"dimensions={requested} is not supported; this model has {sizes}.", "dimensions")
        self.requested = requested
        self.allowed = allowed


class ModelNotFound(RequestError):
    """No model is served under that name."""

    reason = "model_not_found"

    def __init__(self, name: str) -> None:
        """Of a long `name` the beginning is shown: nobody's megabyte comes back as an error."""
        self.name = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…"
        super().__init__(f"The model `{self.name}` does not exist or you do not have access to it.", "model")


class WrongTask(RequestError):
    """The model gives something else than what is asked for."""

    reason = "wrong_task"

    def __init__(self, name: str, kind: str, asked: str, routes: str) -> None:
        """`kind` says what the model is, `asked` what it does not give, `routes` where it answers."""
        super().__init__(f"The model `{name}` is {kind} and gives no {asked}; it answers at {routes}.", "model")
        self.asked = asked


class LoadFailed(RequestError):
    """A model could not be loaded at run time, for the reason of a StartupError."""

    reason = "load_failed"

    def __init__(self, name: str, why: str, remedy: str) -> None:
        super().__init__(f"{name!r} was not loaded: {why} → {remedy}")
        self.name = name


class RouteNotFound(RequestError):
    """No such path."""

    reason = "route_not_found"

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"Invalid URL ({method} {path})")


class MethodNotAllowed(RequestError):
    """The path exists, but not for this method."""

    reason = "method_not_allowed"

    def __init__(self, method: str, path: str, allowed: tuple[str, ...]) -> None:
        super().__init__(f"Not allowed to {method} on {path}; use {' or '.join(allowed)}")
        self.allowed = allowed


class Unauthenticated(RequestError):
    """`key` is what was presented, already masked; None where nothing was."""

    reason = "unauthenticated"

    def __init__(self, masked_key: str | None) -> None:
        super().__init__("No API key was provided." if masked_key is None else "Incorrect API key provided.")
        self.masked_key = masked_key


class OverRateLimit(RequestError):
    """Alone, it is more than its key may have in a minute: no wait lets it through. `kind` is tokens or requests."""

    reason = "over_rate_limit"

    def __init__(self, kind: str, limit: int, requested: int) -> None:
        super().__init__(
            f"Requested {requested} {kind}, and {limit} are allowed in a minute: it can never pass; send less at once."
        )
        self.kind = kind
        self.limit = limit
        self.requested = requested


class ServerBusy(EmbedserveError):
    """Retry after `retry_after` seconds (a float; headers round it up)."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class Overloaded(ServerBusy):
    """More is queued, read or held than may be (tokens, seconds of work, characters, bytes of bodies). `tokens` are
    those of the request, 0 where nobody has counted them."""

    reason = "overloaded"

    def __init__(self, message: str, retry_after: float, tokens: int = 0) -> None:
        super().__init__(message, retry_after)
        self.tokens = tokens


class RateLimited(ServerBusy):
    """Its key has had what it may have for now. `kind` is tokens or requests; `wait` is `retry_after` for people."""

    reason = "rate_limited"

    def __init__(self, kind: str, limit: int, used: int, requested: int, retry_after: float, wait: str) -> None:
        super().__init__(
            f"Rate limit reached: {limit} {kind} are allowed in a minute, {used} are used, and {requested} were "
            f"requested. Please try again in {wait}.",
            retry_after,
        )
        self.kind = kind
        self.limit = limit
        self.used = used
        self.requested = requested
        self.wait = wait


class Unavailable(ServerBusy):
    """The model is still loading, or the server is draining before it exits."""

    reason = "unavailable"


class DeadlineExceeded(EmbedserveError):
    """The request was not finished within its time; what was still waiting was dropped unrun."""

    reason = "deadline_exceeded"


class ClientGone(EmbedserveError):
    """The client closed the connection before the answer; what was still waiting was dropped unrun."""

    reason = "client_gone"


class InferenceError(EmbedserveError):
    """ONNX Runtime failed on this request alone (its batch-mates were answered); `detail` is for the log."""

    reason = "inference_failed"

    def __init__(self, detail: str) -> None:
        super().__init__("The model failed on this request.")
        self.detail = detail


class BadVectors(InferenceError):
    """What came out of the graph is not finite, or zero where no text is; `rows` are the places in their batch."""

    reason = "bad_vector"

    def __init__(self, detail: str, rows: tuple[int, ...] = ()) -> None:
        super().__init__(detail)
        self.rows = rows
