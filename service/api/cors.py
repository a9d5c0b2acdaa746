"""Pages of other origins in browsers, by Starlette's rules: off, unless `cors_origins` names some."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.exchange import Exchange

_METHODS = ("GET", "HEAD", "POST")
_LIMITS = tuple(
    f"x-ratelimit-{what}-{kind}" for what in ("limit", "remaining", "reset") for kind in ("requests", "tokens")
)
# What scripts may read beside what they always may.
_EXPOSED = (
    *("x-request-id", "retry-after", "retry-after-ms", "x-should-retry", *_LIMITS),
    *("openai-model", "openai-processing-ms", "openai-version", "x-truncated-inputs", "x-late-fallback-inputs"),
    "traceresponse",
)


class Cors(CORSMiddleware):
    """Answers a browser's preflights itself, without a key, as browsers send none with them.

    Cookies and the like are never allowed: a key is what a script has to have, and puts into a header.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        """`origins` as browsers write them, or "*" for all."""
        super().__init__(app, origins, _METHODS, ("*",), expose_headers=_EXPOSED)

    def preflight_response(self, request_headers: Headers) -> Response:
        """The library's, which browsers keep by a header of its own, and no cache is to keep."""
        response = super().preflight_response(request_headers)
        response.headers["cache-control"] = "no-store"
        return response

    async def simple_response(self, scope: Scope, receive: Receive, send: Send, request_headers: Headers) -> None:
        """What the library would add to the start of a reply is added to an Exchange's, which sends no messages."""
        start: Message = {"type": "http.response.start", "headers": []}
        await self.send(start, _nowhere, request_headers)
        Exchange.of(scope).add_headers(start["headers"])
        await self.app(scope, receive, send)


async def _nowhere(message: Message) -> None:
    """It is only looked at."""
