"""Ports: a bound socket, and uvicorn on it with this server's protocol, headers and limits of time."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from service.errors import StartupError
from service.protocol import LimitedProtocol, State
from service.settings import Settings
from service.tls import Certificates

_BACKLOG = 2048  # connections the kernel holds while the event loop is busy
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
        self._protocol = partial(LimitedProtocol, self.config, self.server_state, {})

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's."""
        loop = asyncio.get_running_loop()
        if self._tls is not None:
            self._limits = {
                "ssl": self._tls.context,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _GOODBYE_SECONDS,
            }
        self.servers = [
            await loop.create_server(self._protocol, sock=one, backlog=_BACKLOG, **self._limits)
            for one in sockets or ()
        ]
        self.started = True

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
        last = [connection for one in kept for connection in _queued(one)]
        for one in kept:
            one.close()
        loop = asyncio.get_running_loop()
        taken = (loop.connect_accepted_socket(self._protocol, one, **self._limits) for one in last)
        await asyncio.gather(*taken, return_exceptions=True)  # a handshake may fail, and is its client's affair
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

    def __init__(self, config: uvicorn.Config, tls: Certificates | None, listener: socket.socket, host: str) -> None:
        super().__init__(config, tls)
        self._listener = listener
        self.url = address(tls is not None, host, listener)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None: they are the other one's."""
        yield

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While the block is."""
        serving = asyncio.create_task(self.serve(sockets=[self._listener]))
        try:
            yield
        finally:
            self.should_exit = True
            await serving


def uvicorn_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """With what every port has in common."""
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        headers=_STANDING_HEADERS + (_HTTPS_HEADERS if settings.tls_certificate else []),
        proxy_headers=False,  # nothing here looks at the client's address
        lifespan="off",
        loop="uvloop" if sys.platform != "win32" else "asyncio",
        http=LimitedProtocol,
        ws="none",
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_timeout) or 1,
    )


def _queued(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that the kernel has taken, as many as may be open."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection


def _is_fresh(connection: Any) -> bool:
    """Whether its first request has not come."""
    return connection.cycle is None and not connection.transport.is_closing()


def listen(host: str, port: int, flag: str = "--") -> socket.socket:
    """Binds before anything slow happens. Raises StartupError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        remedy = f"name an address of this machine with {flag}host"
        if error.errno == errno.EADDRINUSE:
            remedy = f"stop what is listening there, or pick another with {flag}port (0 picks a free one)"
        if error.errno == errno.EACCES:
            remedy = f"pick one above 1023 with {flag}port: those below are for who has the right NET_BIND_SERVICE"
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}", remedy) from None
    listener.setblocking(False)
    return listener


def address(is_secure: bool, host: str, listener: socket.socket) -> str:
    """Where a client on this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http{'s' if is_secure else ''}://{shown}:{listener.getsockname()[1]}"
