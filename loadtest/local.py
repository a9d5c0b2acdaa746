"""Servers on this machine: a port for one, and requests that no proxy of the environment gets to see."""

from __future__ import annotations

import socket
import urllib.request
from typing import Any

_DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def urlopen(url: str | urllib.request.Request, seconds: float) -> Any:
    """As urllib's. Raises OSError, HTTPError among them."""
    return _DIRECTLY.open(url, timeout=seconds)


def free_port() -> int:
    """One that nobody listens at, for now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
