"""create_app(): the dialects side by side, and what answers where no operation does."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import cast

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import service
from service.api import health, openai, vertex
from service.api.docs import openapi
from service.api.http import Dialect, Endpoint, Operation, Service
from service.settings import Settings

# In the order in which a stray path is offered to them; OpenAI's takes all the rest.
DIALECTS: Sequence[ModuleType] = (vertex, health, openai)


def create_app(parts: Service) -> FastAPI:
    """The ASGI application. Its documentation pages load nothing from other hosts."""
    app = FastAPIOffline(
        title="Embedserve",
        version=service.__version__,
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs-assets",
    )
    served = operations(parts.settings)
    app.router.routes[:0] = [
        Route(path, Endpoint(sharing, dialect, parts))
        for dialect, mine in served
        for path, sharing in _by_path(mine).items()
    ]
    app.router.default = _Stray([dialect for dialect, _ in served], parts)
    document = openapi(served)
    app.openapi = lambda: document  # type: ignore[method-assign]  # FastAPI's documented way to bring one's own
    return app


def _by_path(operations: Sequence[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = {}
    for operation in operations:
        for path in operation.paths:
            found.setdefault(path, []).append(operation)
    return found


class _Stray:
    """Answers where no path matches, in the words of the dialect that the path looks like."""

    def __init__(self, dialects: Sequence[Dialect], parts: Service) -> None:
        self._dialects = [(dialect, Endpoint((), dialect, parts)) for dialect in dialects]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = next(mine for dialect, mine in self._dialects if dialect.owns(scope["path"]))
        await endpoint(scope, receive, send)


def operations(settings: Settings) -> list[tuple[Dialect, tuple[Operation, ...]]]:
    """Every operation, those that settings add included."""
    extra = {
        vertex.NAME: vertex.container_operations(settings.predict_route),
        health.NAME: health.container_operations(settings.health_route),
    }
    dialects = [cast(Dialect, module) for module in DIALECTS]
    return [(dialect, (*dialect.OPERATIONS, *extra.get(dialect.NAME, ()))) for dialect in dialects]
