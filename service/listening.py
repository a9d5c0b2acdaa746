"""uvicorn on sockets that are bound, or on none, with this server's protocol, headers and limits of time."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from service.doors import BACKLOG, queued
from service.protocol import LimitedProtocol, State
from service.settings import Settings
from service.tls import Certificates

# Longer than the idle limit of the usual load balancers (60 s), so that they, not we, close a connection first and
# no request is sent into one that is just being closed.
_KEEP_ALIVE_SECONDS = 75
# A handshake of TLS takes two round trips. Whoever does not answer our goodbye is not waited for at the end.
_HANDSHAKE_SECONDS = 10.0
_GOODBYE_SECONDS = 1.0
# At the end of a drain: until the event loop has closed its end, and that a new connection has for its request.
_CLOSING_SECONDS = 0.1
_FRESH_SECONDS = 1.0
_FRESH_TURNS = 20
# Of every reply, those of uvicorn itself included.
_STANDING_HEADERS = [("x-content-type-options", "nosniff")]
_HTTPS_HEADERS = [("strict-transport-security", "max-age=31536000")]


class Listener(uvicorn.Server):
    """uvicorn on sockets that are bound, until `should_exit`. uvicorn's own has no limits of time for TLS."""

    def __init__(self, config: uvicorn.Config, tls: Certificates | None) -> None:
        super().__init__(config)
        self.server_state: State = State()
        self._tls = tls
        self._limits: dict[str, Any] = {}
        if tls is not None:
            self._limits = {
                "ssl": tls.context,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _GOODBYE_SECONDS,
            }
        self._protocol = partial(LimitedProtocol, self.config, self.server_state, {})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's."""
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(self._protocol, sock=one, backlog=BACKLOG, **self._limits) for one in sockets or ()
        ]
        self.started = True

    async def take(self, connection: socket.socket) -> None:
        """Serves one that was accepted elsewhere. Raises OSError where its handshake fails."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as event loops do where they accept
        await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection, **self._limits)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's; before, at the end of a drain, whoever has connected already gets a moment for a request."""
        if self.server_state.is_draining and not self.force_exit:
            await self._take_the_last(sockets or [])
        await super().shutdown(sockets)

    async def _take_the_last(self, sockets: list[socket.socket]) -> None:
        """Connections that the kernel holds would be reset by closing the listener. The event loop closes its own end
        some time later, so another one of this process's keeps them until then."""
        kept = [one.dup() for one in sockets]
        for server in self.servers:
            server.close()
        for one in sockets:
            one.close()
        await asyncio.sleep(_CLOSING_SECONDS)
        last = [connection for one in kept for connection in queued(one)]
        for one in kept:
            one.close()
        await asyncio.gather(*map(self.take, last), return_exceptions=True)  # a handshake's failure is its client's
        for _ in range(_FRESH_TURNS):  # turns of the loop and not only time: what came while it was busy counts
            if not any(map(_is_fresh, self.server_state.connections)):
                break
            await asyncio.sleep(_FRESH_SECONDS / _FRESH_TURNS)

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn every tenth of a second."""
        if self._tls is not None:
            self._tls.look_again()
        return await super().on_tick(counter)


class Beside(Listener):
    """The port for probes, metrics and administrators, from before the other one until after it."""

    def __init__(self, config: uvicorn.Config, tls: Certificates | None, listeners: list[socket.socket]) -> None:
        super().__init__(config, tls)
        self._listeners = listeners

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: they are the other one's."""
        yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the block is."""
        serving = asyncio.create_task(self.serve(sockets=self._listeners))
        try:
            yield
        finally:
            self.should_exit = True
            await serving


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """With what every port has in common."""
    return uvicorn.Config(
        app,
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        headers=_STANDING_HEADERS + (_HTTPS_HEADERS if settings.tls_certificate else []),
        proxy_headers=False,  # nothing here looks at the client's address
        lifespan="off",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=LimitedProtocol,
        ws="none",
        backlog=BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
    )


def _is_fresh(connection: Any) -> bool:
    """Whether its first request has not come."""
    return connection.cycle is None and not connection.transport.is_closing()
