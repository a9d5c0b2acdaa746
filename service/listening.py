"""Ports: a bound socket, and uvicorn on it with this server's protocol, headers and limits of time."""

from __future__ import annotations

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
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
# Of every reply, those of uvicorn itself included.
_STANDING_HEADERS = [("x-content-type-options", "nosniff")]
_HTTPS_HEADERS = [("strict-transport-security", "max-age=31536000")]


class Listener(uvicorn.Server):
    """uvicorn on sockets that are bound, until `should_exit`. uvicorn's own has no limits of time for TLS."""

    def __init__(self, config: uvicorn.Config, tls: Certificates | None) -> None:
        super().__init__(config)
        self.server_state: State = State()
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """In place of uvicorn's."""
        loop = asyncio.get_running_loop()
        limits: dict[str, Any] = {}
        if self._tls is not None:
            limits = {
                "ssl": self._tls.context,
                "ssl_handshake_timeout": _HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": _GOODBYE_SECONDS,
            }
        protocol = partial(LimitedProtocol, self.config, self.server_state, {})
        self.servers = [
            await loop.create_server(protocol, sock=one, backlog=_BACKLOG, **limits) for one in sockets or ()
        ]
        self.started = True

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
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}", remedy) from None
    listener.setblocking(False)
    return listener


def address(is_secure: bool, host: str, listener: socket.socket) -> str:
    """Where a client on this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http{'s' if is_secure else ''}://{shown}:{listener.getsockname()[1]}"
