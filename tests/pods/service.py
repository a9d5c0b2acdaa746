"""A Service as kube-proxy makes it: a connection goes to one endpoint and stays there, whatever becomes of it.

That is why a pod that ends must tell its clients so (`connection: close`): nothing between them does. A change of the
endpoints is known a while after it happened, as in a cluster, where it goes through the API server to every node.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections import Counter
from collections.abc import Sequence

Endpoint = tuple[str, int]
_READ = 1 << 16


class Service:
    """Listens on loopback, and where it is told to. `lag` is in seconds, from a change of endpoints to its effect."""

    def __init__(self, lag: float) -> None:
        self.connections: Counter[Endpoint] = Counter()  # opened so far, by endpoint
        self._lag = lag
        self.endpoints: Sequence[Endpoint] = ()  # those that are in effect
        self._draw = random.Random(1)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="service", daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self.listen('127.0.0.1')}"

    def listen(self, host: str, port: int = 0) -> int:
        """On one more address of this machine; returns the port, which 0 leaves to the kernel."""
        starting = asyncio.start_server(self._serve, host, port)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        found: int = server.sockets[0].getsockname()[1]
        return found

    def set(self, endpoints: Sequence[Endpoint]) -> None:
        """Takes effect after the lag."""
        self._loop.call_soon_threadsafe(self._loop.call_later, self._lag, self._take, tuple(endpoints))

    def stop(self) -> None:
        """Cuts what is open."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _take(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = endpoints

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self.endpoints:
            to_client.transport.abort()
            return
        endpoint = self._draw.choice(self.endpoints)
        self.connections[endpoint] += 1
        try:
            server, to_server = await asyncio.open_connection(*endpoint)
        except OSError:
            to_client.transport.abort()
            return
        await asyncio.gather(_pass_on(client, to_server), _pass_on(server, to_client))


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Bytes and their end; a reset on one side is one on the other."""
    try:
        while data := await source.read(_READ):
            target.write(data)
            await target.drain()
        with contextlib.suppress(OSError):
            target.write_eof()
    except OSError:
        target.transport.abort()
