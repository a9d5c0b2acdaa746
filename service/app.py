"""create_app(): the dialects side by side, and what answers where no operation does."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import cast

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

import service
from service.api import (
    cohere,
    gemini,
    health,
    jina,
    kserve,
    openai,
    pages,
    pair_scores,
    repository,
    rerank,
    tei,
    vertex,
)
from service.api.cors import Cors
from service.api.docs import openapi
from service.api.http import Dialect, Endpoint, Operation, Place, Service
from service.errors import StartupError
from service.settings import Settings

# In the order in which a stray path is offered to them; OpenAI's takes all the rest.
DIALECTS: Sequence[ModuleType] = (vertex, gemini, health, tei, kserve, rerank, cohere, jina, pair_scores, openai)


def create_app(parts: Service, place: Place | None = None) -> ASGIApp:
    """The ASGI application: FastAPI's, with every path, its documentation included, answered by an Endpoint.

    With a `place` it has what is served there, without one everything. Paths without parameters are looked up before
    FastAPI sees them: its layers cost more than tokenising does.
    """
    app = FastAPI(
        title="Embedserve",
        version=service.__version__,
        openapi_url=None,
        # FastAPI's own would send what this server knows nothing of, were a variable of FastAPI's to say so.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        redirect_slashes=False,  # a redirect would name this server's own scheme and host behind a proxy's
    )
    served = operations(parts.settings, place)
    documented = tuple(served)
    # FastAPI's documented way to bring one's own; written when first asked for, as it takes a twentieth of a start.
    app.openapi = cache(lambda: openapi(documented))  # type: ignore[method-assign]
    if parts.settings.docs and place != "admin":
        served.append((cast(Dialect, openai), pages.operations(app.openapi)))
    endpoints = {path: Endpoint(sharing, dialect, parts) for path, (dialect, sharing) in _by_path(served).items()}
    app.router.routes[:] = [Route(path, endpoint) for path, endpoint in endpoints.items()]
    app.router.default = stray = _Stray([dialect for dialect, _ in served], parts)
    fixed = _FixedPaths(app, {path: one for path, one in endpoints.items() if "{" not in path}, stray)
    origins = parts.settings.cors_origins
    return Cors(fixed, origins) if origins and place != "admin" else fixed


def _by_path(served: Sequence[tuple[Dialect, Sequence[Operation]]]) -> dict[str, tuple[Dialect, list[Operation]]]:
    """Dialects may share a path by different methods; the first that has it gives it the words for errors.

    Where they have the same method on it, the first one's operation is the one that answers.
    """
    found: dict[str, tuple[Dialect, list[Operation]]] = {}
    for dialect, operations in served:
        for operation in operations:
            for path in operation.paths:
                _, sharing = found.setdefault(path, (dialect, []))
                if all(one.method != operation.method for one in sharing):
                    sharing.append(operation)
    return found


class _FixedPaths:
    """Answers paths without parameters by one look-up; the application has the others, but for those with a line
    break: to Starlette's patterns `/metrics%0A` is /metrics, which a proxy in front may have closed."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint], stray: ASGIApp) -> None:
        self._app = app
        self._endpoints = endpoints
        self._stray = stray

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        endpoint: ASGIApp | None = self._endpoints.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None and scope["type"] == "http" and "\n" in scope["path"]:
            endpoint = self._stray
        return (endpoint or self._app)(scope, receive, send)


class _Stray:
    """Answers where no path matches, in the words of the dialect that the path looks like."""

    def __init__(self, dialects: Sequence[Dialect], parts: Service) -> None:
        self._dialects = [(dialect, Endpoint((), dialect, parts)) for dialect in dialects]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = next(mine for dialect, mine in self._dialects if dialect.owns(scope["path"]))
        await endpoint(scope, receive, send)


def own_paths() -> set[str]:
    """Those that no setting may give to something else."""
    return {path for module in DIALECTS for one in module.OPERATIONS for path in one.paths}


def operations(settings: Settings, place: Place | None = None) -> list[tuple[Dialect, tuple[Operation, ...]]]:
    """Every operation of a place, or of both, those that settings add included. Raises StartupError where their paths
    are at odds."""
    extra = {
        vertex.NAME: vertex.container_operations(settings.predict_route),
        health.NAME: health.container_operations(settings.health_route),
        kserve.NAME: repository.OPERATIONS if settings.admin_keys or settings.admin_key_file else (),
    }
    _check_routes(settings, own_paths().union(*(one.paths for one in extra[kserve.NAME])))
    found = [(cast(Dialect, module), (*module.OPERATIONS, *extra.get(module.NAME, ()))) for module in DIALECTS]
    return [(dialect, tuple(one for one in all_ if place is None or place in one.places)) for dialect, all_ in found]


def _check_routes(settings: Settings, taken: set[str]) -> None:
    """Raises StartupError where a path of the settings means something else already."""
    if settings.docs:
        taken = taken | {pages.DOCUMENT, pages.PAGE}
    for name in ("predict_route", "health_route"):
        if getattr(settings, name) in taken:
            raise StartupError(f"{name} {getattr(settings, name)} is a path of this server's own", "pick another path")
    if settings.predict_route is not None and settings.predict_route == settings.health_route:
        reason = f"predict_route and health_route are both {settings.predict_route}"
        raise StartupError(reason, "give each a path of its own")
