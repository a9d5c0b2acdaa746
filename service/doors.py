"""Ports: sockets that are bound before anything slow happens, and where clients find them."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

from service.errors import StartupError
from service.settings import Settings

BACKLOG = 2048  # connections the kernel holds while the event loop is busy


class Doors(NamedTuple):
    """Where connections come in: sockets that listen at clients' port and, where there is one, at the other one; and
    where clients on this machine find them. A process that is handed its connections has the ports without sockets."""

    client: list[socket.socket]
    admin: list[socket.socket] | None
    urls: Mapping[str, str]


def open_doors(settings: Settings) -> Doors:
    """Binds before anything slow happens. Raises StartupError."""
    is_secure = settings.tls_certificate is not None
    admin_host = settings.admin_host or settings.host
    if settings.admin_port is None and settings.admin_host is not None:
        raise StartupError("--admin-host is set, and --admin-port is not", "set both, or neither")
    if settings.admin_port == settings.port != 0 and admin_host == settings.host:
        raise StartupError(f"--port and --admin-port are both {settings.port}", "give each a port of its own")
    client = listen(settings.host, settings.port)
    urls = {"url": _address(is_secure, settings.host, client)}
    if settings.admin_port is None:
        return Doors([client], None, urls)
    admin = listen(admin_host, settings.admin_port, "--admin-")
    return Doors([client], [admin], urls | {"admin_url": _address(is_secure, admin_host, admin)})


def listen(host: str, port: int, flag: str = "--") -> socket.socket:
    """Raises StartupError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
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


def _address(is_secure: bool, host: str, listener: socket.socket) -> str:
    """Where a client on this machine finds it."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http{'s' if is_secure else ''}://{shown}:{listener.getsockname()[1]}"


def queued(listener: socket.socket) -> Iterator[socket.socket]:
    """Connections that the kernel has taken, as many as may be open."""
    with suppress(OSError):
        while True:
            connection, _ = listener.accept()
            connection.setblocking(False)
            yield connection
