"""Bytes and headers: what every operation of every dialect has in common.

An `Operation` is a method on a path, with a handler; `Endpoint` is the ASGI application of a path: request id, key,
body, handler, error body, metrics, log line, in that order. It is plain ASGI, because FastAPI's own request handling
costs more than tokenising the text does.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from random import getrandbits
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from starlette.types import Receive, Scope, Send

from service import metrics
from service.api.auth import Keys
from service.api.body_bounds import check_bounds
from service.api.client_deadline import client_seconds, repeated
from service.api.errors import Status, own_statuses, retry_headers, status_of
from service.api.traced import of_answer, of_model, of_request, of_result
from service.api.wire import json_parts, to_json
from service.bodies import Arrival, Bodies
from service.bundle import Use
from service.errors import (
    BodyTooLarge,
    ClientGone,
    DeadlineExceeded,
    EmbedserveError,
    InferenceError,
    InvalidInput,
    MalformedBody,
    MethodNotAllowed,
    Overloaded,
    RequestError,
    RouteNotFound,
    SlowBody,
    TooManyInputs,
    Unavailable,
)
from service.exchange import Exchange
from service.logs import LOGGER, event, request_event
from service.member import Member
from service.model import Model
from service.registry import Registry
from service.settings import Settings
from service.spending import Spending, spending_of
from service.telemetry.context import parent_of, state_of
from service.tracing import ENCODE, Context, Trace, follow
from service.types import EmbedResult, ScoreResult, SparseResult, TokenResult

if TYPE_CHECKING:
    from service.telemetry.tracer import Tracer

JSON = "application/json"
# Bound of every list of objects in a schema, far above any limit of settings: what is counted only after it was
# validated item by item would keep the event loop busy for seconds.
MAX_ITEMS = 20_000
# Labels of requests that never reached a model, or a path.
_NO_MODEL = "none"
NO_ROUTE = "unmatched"
_PANIC = "PanicException"  # of a library in Rust: no Exception, and of a class that cannot be imported
_MOST_QUERY_FIELDS = 100
_GONE = "The client went away before the answer."
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

Schema = TypeVar("Schema", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Service:
    """What handlers reach: the models, the settings, the keys, the administrators' keys, if there are any, how much of
    bodies is held, who traces requests, if anybody does, and the other processes on these ports, if there are any."""

    registry: Registry
    settings: Settings
    keys: Keys
    admin_keys: Keys | None = None
    bodies: Bodies = field(default_factory=Bodies)
    tracer: Tracer | None = None
    member: Member | None = None


@dataclass(slots=True)
class Call:
    """One request, read."""

    service: Service
    route: str
    method: str
    request_id: str
    path_params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[bytes, bytes]
    started: float  # by time.perf_counter
    deadline: float  # in the event loop's time
    has_own_deadline: bool = False  # which its client has set
    body: bytes = b""
    held: int = 0  # bytes of it
    model: str = _NO_MODEL  # for metrics and logs; set by `find_model`
    facts: dict[str, object] = field(default_factory=dict)  # for the log line
    used: list[Model] = field(default_factory=list)
    is_cut_short: bool = False  # the rest of its body is not going to be read
    is_looked_at: bool = False  # though by its length it could be turned away
    spending: Spending | None = None  # of its key's, where there are keys or limits
    context: Context | None = None  # of its server span, where there is a tracer
    trace: Trace | None = None  # where that is recorded

    def parse(self, schema: type[Schema]) -> Schema:
        """The JSON body as `schema`. Raises MalformedBody, InvalidInput with the field to blame."""
        settings = self.service.settings
        check_bounds(self.body, 2 * settings.max_request_tokens, MAX_ITEMS + 2 * settings.max_inputs)
        try:
            return schema.model_validate_json(self.body)
        except ValidationError as error:
            raise explain(error) from None

    def find_model(self, name: str | None, *uses: Use) -> Model:
        """Without a name, the first model of one of these uses, or else the first one.

        It stays until the request is answered, even if it is unloaded meanwhile. Raises ModelNotFound, Unavailable;
        Overloaded where it has no room for such a body."""
        model = self.service.registry.get(name, *uses)
        self.model = model.name
        if self.trace is not None:
            self.trace.tell(of_model(model.name, model.bundle.task != "score"))
        _turn_away(self, [model], self.held)
        model.usage.begin()
        self.used.append(model)
        return model

    def check_count(self, count: int, param: str) -> None:
        """Raises TooManyInputs where that many texts are more than the settings allow for a request."""
        if count > (limit := self.service.settings.max_inputs):
            raise TooManyInputs(limit, count, param)

    def shorten(self, deadline: float) -> None:
        """By its client's wish."""
        if deadline < self.deadline:
            self.deadline, self.has_own_deadline = deadline, True

    def hold(self, size: int) -> None:
        """So many bytes of its body, until it is answered."""
        self.held += size
        self.service.bodies.take(size)

    def let_go(self) -> None:
        """Nothing of its body is held any more."""
        self.service.bodies.give_back(self.held)
        self.held = 0

    def release(self) -> None:
        """It has been answered."""
        self.let_go()
        for model in self.used:
            model.usage.end()

    def seconds(self) -> float:
        """Since it began."""
        return time.perf_counter() - self.started

    def count(self, result: EmbedResult | ScoreResult | SparseResult | TokenResult) -> None:
        """Adds a result to metrics and to the log line."""
        tokens, truncated = sum(result.tokens), sum(result.truncated)
        counters = metrics.of_results(self.model, self.route)
        counters.tokens.inc(tokens)
        counters.inputs.inc(len(result.tokens))
        counters.rows.inc(result.rows)
        counters.ratio.observe(result.computed_tokens / max(tokens, 1))
        if truncated:
            metrics.TRUNCATIONS.labels(self.model, self.route).inc(truncated)
        self.facts = {"inputs": len(result.tokens), "tokens": tokens, "chunks": result.rows}
        model = self.used[-1]
        if not isinstance(result, TokenResult) or model.bundle.task == "tokens":  # or it is not of the main queue
            model.expected.learn(self.route, self.held, tokens)
            if isinstance(result, EmbedResult) and any(result.late):
                model.expected.learn_elsewhere(self.route)
        if self.trace is not None:
            self.trace.enter(ENCODE)
            self.trace.tell(of_result(result, self.model))

    @property
    def ids(self) -> dict[str, str]:
        """Its own and its trace's, for log lines."""
        own = {"request_id": self.request_id}
        return own if self.context is None else own | self.context.ids


class Reply(NamedTuple):
    """What goes back: `body`, and `more` behind it where it was too large to be joined."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = MappingProxyType({})
    cache_control: str = "no-store"
    more: Sequence[bytes] = ()


def json_reply(body: object, headers: Mapping[str, str]) -> Reply:
    """Of what may hold rows that were written in turns: bytes in it go out as the JSON that they are."""
    first, more = json_parts(body)
    return Reply(first, headers=headers, more=more)


Handler = Callable[[Call], Coroutine[Any, Any, Reply]]

Place = Literal["public", "admin"]
"""The port for clients, and the one beside it for probes, metrics and administrators, where there is one."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method on one or more paths (Starlette's templates); the first path names it in metrics and docs;
    `counted_as` does in metrics and logs, where that path is another operation's as well."""

    method: str
    paths: tuple[str, ...]
    handler: Handler
    summary: str
    request: type[BaseModel] | None = None
    response: type[BaseModel] | None = None
    needs_key: bool = True
    is_admin: bool = False  # needs a key of the administrators'
    content_type: str = JSON
    documented: bool = True
    places: frozenset[Place] = frozenset({"public"})  # where it is served if there are two ports
    binary: bool = False  # both bodies may hold raw tensors after their JSON (`oip_binary`)
    counted_as: str | None = None

    @property
    def route(self) -> str:
        """Its label in metrics."""
        return self.counted_as or self.paths[0]


class Dialect(Protocol):
    """One wire protocol, which is one module of this package."""

    NAME: str
    OPERATIONS: tuple[Operation, ...]
    ERROR: type[BaseModel]

    def error_body(self, error: EmbedserveError, status: Status) -> dict[str, Any]:
        """The JSON of an error."""

    def owns(self, path: str) -> bool:
        """Whether a path that no operation has would have been this dialect's."""


class Endpoint:
    """A path as an ASGI application: its operations by method, and a refusal for every other method."""

    def __init__(self, operations: Sequence[Operation], dialect: Dialect, service: Service) -> None:
        """`operations` share a path; none at all makes an endpoint that says there is no such path."""
        self._operations = {one.method: one for one in operations}
        if "GET" in self._operations:
            self._operations["HEAD"] = self._operations["GET"]  # the server leaves the body out
        self._dialect = dialect
        self._service = service
        self._route = operations[0].paths[0] if operations else NO_ROUTE
        routes = {self._route, *(one.route for one in operations)}
        self._in_flight = {route: metrics.IN_FLIGHT.labels(route) for route in routes}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        exchange = Exchange.of(scope)
        operation = self._operations.get(scope["method"]) or self._refuser(scope["path"])
        call = _read_head(scope, exchange, self._service, operation.route)
        is_probe = bool(operation.method) and not operation.needs_key
        tracer = self._service.tracer
        if tracer is not None and not is_probe:
            self._begin_trace(tracer, call, scope, operation)
        in_flight = self._in_flight[call.route]
        in_flight.inc()
        try:
            reply = await self._answer(operation, call, exchange, receive)
            await exchange.reply(reply.status, _headers(reply, call), reply.body, reply.more)
        finally:
            in_flight.inc(-1)
            call.release()
        _observe(call, exchange, reply.status, is_probe)
        if tracer is not None and call.trace is not None:
            call.trace.tell(of_answer(reply.status, call.request_id, call.facts))
            tracer.finish(call.trace)

    def _begin_trace(self, tracer: Tracer, call: Call, scope: Scope, operation: Operation) -> None:
        """Ids of its own for every request, and notes for those that are recorded."""
        headers = scope["headers"]
        parent = parent_of(headers) if b"traceparent" in call.headers else None
        call.context = tracer.context(parent)
        if call.context.is_sampled:
            name, attributes = of_request(scope, None if self._route is NO_ROUTE else self._route, operation.paths)
            caller, state = (parent.span_id, state_of(headers)) if parent else (None, "")
            call.trace = Trace(call.context, caller, state, name, call.started)
            call.trace.tell(attributes)
        follow(call.trace)

    def _refuser(self, path: str) -> Operation:
        async def refuse(call: Call) -> Reply:
            if self._operations:
                raise MethodNotAllowed(call.method, path, tuple(self._operations))
            raise RouteNotFound(call.method, path)

        return Operation("", (self._route,), refuse, "", needs_key=False)

    def _keys(self, operation: Operation) -> Keys:
        if not operation.is_admin:
            return self._service.keys
        assert self._service.admin_keys is not None  # or there would be no such operation
        return self._service.admin_keys

    async def _answer(self, operation: Operation, call: Call, exchange: Exchange, receive: Receive) -> Reply:
        try:
            account = self._keys(operation).check(call.headers, call.query) if operation.needs_key else None
            if exchange.is_surplus and not (operation.method == "GET" and not operation.needs_key):
                call.is_cut_short = True
                raise Unavailable("The server has as many connections as it may have.", retry_after=1.0)
            if operation.method != "POST":
                return await operation.handler(call)
            call.spending = spending_of(None if operation.is_admin else account)
            if call.spending is not None:
                call.spending.begin()
            if (seconds := client_seconds(call.headers)) is not None:
                call.shorten(exchange.loop.time() + seconds)
            declared = _declared_size(call)
            _turn_away(call, self._service.registry.models(), declared)
            call.body = await _read_body(exchange, receive, call, declared)
            return await _unless_gone(operation.handler, call, exchange)
        except EmbedserveError as error:
            return refusal(call, error, self._dialect)
        except asyncio.CancelledError:
            # By the server, when the time to drain is over: who cancels for a client that is gone says so.
            exchange.task.uncancel()
            return refusal(call, Unavailable("The server is shutting down.", retry_after=1.0), self._dialect)
        except BaseException as error:
            if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
                raise
            LOGGER.exception("unexpected error", extra={"fields": call.ids})
            hidden = EmbedserveError("The server had an error while processing your request.")
            return refusal(call, hidden, self._dialect)


def refusal(call: Call, error: EmbedserveError, dialect: Dialect) -> Reply:
    """An error in its dialect's words, counted."""
    status = status_of(error, own_statuses(dialect))
    metrics.of_rejections(call.model, call.route, error.reason).inc()
    call.facts["reason"] = error.reason
    if isinstance(error, Overloaded) and error.tokens and call.used:
        call.used[-1].expected.learn_of_refused(call.route, call.held, error.tokens)
    if call.spending is not None and not isinstance(error, RequestError | DeadlineExceeded | ClientGone):
        call.spending.give_back()  # it was not for the client to prevent
    if status.http >= 500:
        detail = error.detail if isinstance(error, InferenceError) else str(error)
        event(logging.ERROR, detail, **call.ids, reason=error.reason)
    headers = retry_headers(error)
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = ", ".join(error.allowed)
    if call.is_cut_short:
        headers["connection"] = "close"
    return Reply(to_json(dialect.error_body(error, status)), status.http, headers=headers)


def _turn_away(call: Call, models: Sequence[Model], size: int | None) -> None:
    """Raises Overloaded where the length of its body says that a request stands no chance: each of these models has
    just refused others, and would refuse it as well, whatever else is in it. One that has not answered enough at its
    route to know might let it in; and some are read all the same, so that what is learnt is not of those alone who are
    let in."""
    if call.is_looked_at or not size or not models:
        return
    for one in models:
        if not one.turns_away(call.route, size):
            return
    call.is_looked_at = models[0].expected.is_due(call.route)
    if call.is_looked_at:
        return
    if len(models) == 1:
        call.model = models[0].name
    raise models[0].refusal(call.route, size)


def _declared_size(call: Call) -> int | None:
    """Bytes of its body, where its client says."""
    declared = call.headers.get(b"content-length", b"")
    return int(declared[:20]) if declared.isdigit() else None


async def _read_body(exchange: Exchange, receive: Receive, call: Call, declared: int | None) -> bytes:
    """Raises BodyTooLarge and Overloaded as soon as it is known, SlowBody, ClientGone; DeadlineExceeded for a deadline
    of its own."""
    if (encoding := call.headers.get(b"content-encoding", b"identity").lower()) != b"identity":
        raise MalformedBody(f"The body is compressed ({encoding.decode('latin-1')[:20]}), which is not read here.")
    limit = call.service.settings.max_body_bytes
    if declared is not None and declared > limit:
        call.is_cut_short = True
        raise BodyTooLarge(limit)
    bodies = call.service.bodies
    if (whole := exchange.whole_body()) is not None and len(whole) <= limit:
        bodies.check(len(whole))
        call.hold(len(whole))
        return whole
    call.is_cut_short = True
    bodies.check(1 if declared is None else declared)
    body = await _read_parts(receive, limit, call, exchange.loop)
    call.is_cut_short = False
    return body


async def _read_parts(receive: Receive, limit: int, call: Call, loop: asyncio.AbstractEventLoop) -> bytes:
    """Raises BodyTooLarge, Overloaded, ClientGone; DeadlineExceeded at a deadline of its client's, SlowBody at the
    server's, or where the client is too slow."""
    parts, size = [], 0
    bodies = call.service.bodies

    def let_go() -> None:
        call.let_go()
        if not timer.expired():
            timer.reschedule(loop.time())

    arrival = Arrival(loop.time(), call.service.settings.client_timeout, let_go)
    try:
        async with asyncio.timeout_at(min(call.deadline, arrival.due)) as timer:
            with bodies.expecting(arrival):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ClientGone("The client went away while sending.")
                    part = message.get("body", b"")
                    size += len(part)
                    if size > limit:
                        raise BodyTooLarge(limit)
                    arrival.came(len(part), loop.time())
                    bodies.check(len(part), call.held)
                    if arrival.is_cut:
                        raise TimeoutError
                    call.hold(len(part))
                    parts.append(part)
                    if not message.get("more_body"):
                        return parts[0] if len(parts) == 1 else b"".join(parts)
                    timer.reschedule(min(call.deadline, arrival.due))
    except TimeoutError:
        # Not asked of the clock, as a timer may ring a moment early.
        if call.has_own_deadline and call.deadline <= arrival.due and not arrival.is_cut:
            raise DeadlineExceeded("The request was not finished within its time.") from None
        metrics.CONNECTIONS_CUT.labels(SlowBody.reason).inc()
        raise SlowBody from None


def _headers(reply: Reply, call: Call) -> list[tuple[str, str]]:
    headers = [
        ("content-type", reply.content_type),
        ("content-length", str(len(reply.body) + sum(map(len, reply.more)))),
        ("x-request-id", call.request_id),
        ("cache-control", reply.cache_control),
        *reply.headers.items(),
    ]
    if call.spending is not None:
        headers += call.spending.headers()
    if call.context is not None:
        headers.append(("traceresponse", call.context.response))
    return headers


def explain(error: ValidationError) -> EmbedserveError:
    """pydantic's first complaint as ours, without the input it complains about."""
    complaints = error.errors(include_input=False, include_url=False, include_context=False)
    first = complaints[0]
    if first["type"] == "json_invalid":
        return MalformedBody(first["msg"])
    place, reason = first["loc"], first["msg"]
    if len(place) > 1 and _FORM.fullmatch(str(place[-1])):
        place, reason = _of_forms(place[:-1], complaints)
    where = ".".join(map(str, place))
    return InvalidInput(f"{where}: {reason}" if where else reason, str(place[0]) if place else None)


_FORM = re.compile(r"str|int|float|bool|none|(constrained-|literal|list|dict|function-).*")
"""pydantic's names for the forms of a field that may have several: they are at the end of a place, as keys are."""


def _of_forms(field: tuple[int | str, ...], complaints: Sequence[ErrorDetails]) -> tuple[tuple[int | str, ...], str]:
    """Place and reason where a field is of none of its forms: those of the form that it is nearest to, if any."""
    size = len(field)
    forms = [one for one in complaints if one["loc"][:size] == field and len(one["loc"]) > size]
    for one in forms:
        if len(one["loc"]) > size + 1:
            return field + one["loc"][size + 1 :], one["msg"]
    near = [one["msg"] for one in forms if not one["type"].endswith("_type")]
    return field, near[0] if near else "; or: ".join(dict.fromkeys(one["msg"] for one in forms))


def _read_head(scope: Scope, exchange: Exchange, service: Service, route: str) -> Call:
    headers = dict(scope["headers"])
    if len(headers) < len(scope["headers"]):
        headers |= repeated(scope["headers"])
    return Call(
        service,
        route,
        scope["method"],
        _request_id(headers.get(b"x-request-id")),
        scope.get("path_params", _NOTHING),
        _query(scope["query_string"]),
        headers,
        time.perf_counter(),
        exchange.loop.time() + service.settings.request_timeout,
    )


def _query(query: bytes) -> Mapping[str, str]:
    """What has more fields than any client sends says nothing: to read it all would take its time."""
    if not query or query.count(b"&") > _MOST_QUERY_FIELDS:
        return _NOTHING
    return dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True))


def _request_id(asked: bytes | None) -> str:
    return asked.decode() if asked and _SANE_REQUEST_ID.fullmatch(asked) else f"req_{getrandbits(128):032x}"


async def _unless_gone(handler: Handler, call: Call, exchange: Exchange) -> Reply:
    """Runs a handler, and cancels it when the client closes the connection. Raises ClientGone then."""
    if exchange.is_gone:
        raise ClientGone(_GONE)
    exchange.cancel_when_gone(True)
    try:
        return await handler(call)
    except asyncio.CancelledError:
        if not exchange.is_gone:
            raise
        exchange.task.uncancel()
        raise ClientGone(_GONE) from None
    finally:
        exchange.cancel_when_gone(False)


def _observe(call: Call, exchange: Exchange, status: int, is_probe: bool) -> None:
    seconds = call.seconds()
    requests, duration = metrics.of_requests(call.model, call.route, status)
    requests.inc()
    duration.observe(seconds, None if call.trace is None else call.trace.context.ids)
    if call.spending is not None and (name := call.spending.account.name) is not None:
        call.spending.count()
        call.facts["key"] = name
    if call.service.settings.access_log and not is_probe:  # probes and scrapes would drown the rest
        fields = {
            **call.ids,
            "method": call.method,
            "route": call.route,
            "status": status,
            "model": call.model,
            "ms": round(seconds * 1000, 2),
        }
        request_event(fields | call.facts)
