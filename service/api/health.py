"""Liveness, readiness and metrics: for orchestrators, open to all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service import metrics
from service.api.errors import Status
from service.api.http import Call, Handler, Operation, Place, Reply
from service.api.wire import to_json
from service.api.wire_model import WireModel
from service.errors import EmbedserveError

NAME = "health"


class HealthStatus(WireModel):
    """One word; and of several models, those whose runtime fails on everything."""

    status: str
    failing: list[str] | None = None


class HealthError(WireModel):
    """Health's error body."""

    error: str


ERROR = HealthError


async def live(call: Call) -> Reply:
    """503 once a batch has been running for longer than `stall_timeout`, or every model has been failing on everything
    for as long: restarting the process is the remedy."""
    registry, patience = call.service.registry, call.service.settings.stall_timeout
    if registry.stalled_for() > patience:
        return _status("stalled", 503)
    if registry.failing_for() > patience:
        return _status("failing", 503)
    return _status("alive", 200)


async def ready(call: Call) -> Reply:
    """503 while loading, from SIGTERM on, while what still arrives is answered, and while no model works."""
    failing = sorted(call.service.registry.failing())
    if call.service.registry.ready:
        return _status("ready", 200, failing)
    return _status("not ready", 503, failing)


async def show_metrics(call: Call) -> Reply:
    """Prometheus's text format, or OpenMetrics for who accepts it; of all processes where several share the port."""
    accept, member = call.headers.get(b"accept", b"").decode("latin-1"), call.service.member
    body, content_type = metrics.render(accept) if member is None else await member.metrics_of_all(accept)
    return Reply(body, content_type=content_type)


def _status(word: str, http: int, failing: Sequence[str] = ()) -> Reply:
    return Reply(to_json({"status": word, "failing": failing} if failing else {"status": word}), http)


def error_body(error: EmbedserveError, status: Status) -> dict[str, Any]:
    """A sentence."""
    return {"error": str(error)}


def owns(path: str) -> bool:
    """Only the paths below."""
    return False


def _probe(path: str, handler: Handler, summary: str) -> Operation:
    places: frozenset[Place] = frozenset({"public", "admin"})
    return Operation("GET", (path,), handler, summary, response=HealthStatus, needs_key=False, places=places)


def container_operations(health_route: str | None) -> tuple[Operation, ...]:
    """The custom-container contract: the path that AIP_HEALTH_ROUTE names."""
    return () if health_route is None else (_probe(health_route, ready, "Readiness (custom container)"),)


OPERATIONS = (
    _probe("/livez", live, "Whether the process should go on living"),
    _probe("/readyz", ready, "Whether requests are accepted"),
    Operation(
        "GET",
        ("/metrics",),
        show_metrics,
        "Prometheus metrics",
        needs_key=False,
        content_type="text/plain",
        places=frozenset({"admin"}),
    ),
)
