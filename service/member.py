"""This process as one of several that share their ports: it is handed connections, and says how it is.

`supervisor` accepts and hands over. What only all processes together can answer, their metrics, is asked of the others
by pairs of sockets that the supervisor passes on.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, suppress
from typing import Any

from service import channel, metrics
from service.channel import ADMIN, ASKED, CLIENT, CLOSED, END, LEAVE, STARTING, Membership
from service.doors import Doors
from service.ledger import Ledger

_ANSWER_SECONDS = 2.0  # that a sibling has to say its metrics; a scrape has ten
_MANY = 1 << 16  # bytes read at once
_MOST_TURNS = 64  # messages taken before others get their turn

Take = Callable[[socket.socket], Coroutine[Any, Any, None]]
"""Serves a connection; returns when its protocol has it."""


class Member:
    """Owned by the event loop, from `begin` on."""

    def __init__(self, membership: Membership) -> None:
        self.number = membership.number
        self.doors = Doors([], [] if "admin_url" in membership.urls else None, membership.urls)
        self.is_first = membership.number == 0 and membership.restarts == 0
        self.ledger = Ledger(membership.ledger)
        self._siblings = membership.count - 1
        metrics.PROCESSES.set(membership.count)
        metrics.RESTARTS.inc(membership.restarts)
        self._channel = socket.socket(fileno=membership.channel)
        self._unsent = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, doors: Mapping[bytes, Take], leave: Callable[[], None], end: Callable[[], None]) -> None:
        """From now on connections are taken, each at the door of its message. `end` is called when there will be no
        more, which is so as well when the supervisor is gone."""
        self._doors = {**doors, ASKED: self._answer}
        self._leave, self._end = leave, end
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._listen)

    def tell(self, message: bytes) -> None:
        """The supervisor, now or with a later message: nobody waits for it."""
        self._unsent += message
        try:
            while self._unsent:
                self._unsent = self._unsent[self._channel.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:  # it is gone
            self._unsent = b""

    def closed(self) -> None:
        """A client's connection is gone."""
        self.tell(CLOSED)

    def starts_over(self) -> None:
        """Nothing is to be expected of this process for a while."""
        self.tell(STARTING)

    async def finish(self, seconds: float) -> None:
        """Until every connection that was handed over is a protocol's, so long at most: a handshake takes as long as
        its client likes."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def metrics_of_all(self, accept: str) -> tuple[bytes, str]:
        """As `metrics.render`'s, of this process and of those that answer in time, each with its number."""
        own, content_type = metrics.render(accept, self.number)
        return metrics.merged([own, *await self._ask_others(accept)]), content_type

    # --- the supervisor's messages ----------------------------------------------------------------------------

    def _listen(self) -> None:
        for _ in range(_MOST_TURNS):
            try:
                messages, files = channel.receive(self._channel)
            except BlockingIOError:
                return
            except OSError:
                messages, files = b"", []
            for message in messages or END:
                self._heed(bytes([message]), files)
            if not messages:
                asyncio.get_running_loop().remove_reader(self._channel.fileno())
                return

    def _heed(self, message: bytes, files: list[int]) -> None:
        if message == LEAVE:
            self._leave()
        elif message == END:
            self._leave()
            self._end()
        elif not files:  # this process has as many open as it may
            self._lost(message)
        else:
            task = asyncio.create_task(self._take(message, socket.socket(fileno=files.pop())))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _take(self, message: bytes, connection: socket.socket) -> None:
        connection.setblocking(False)
        try:
            await self._doors[message](connection)
        except OSError:  # a handshake may fail, and is its client's affair
            self._lost(message)

    def _lost(self, message: bytes) -> None:
        if message in (CLIENT, ADMIN):
            self.tell(CLOSED)

    # --- metrics ----------------------------------------------------------------------------------------------

    async def _answer(self, sibling: socket.socket) -> None:
        """It has said already what it accepts."""
        loop = asyncio.get_running_loop()
        with sibling, suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                accept = await loop.sock_recv(sibling, _MANY)
                body, _ = metrics.render(accept.decode("latin-1"), self.number)
                await loop.sock_sendall(sibling, body)

    async def _ask_others(self, accept: str) -> list[bytes]:
        with ExitStack() as ends:
            try:
                pairs = [tuple(map(ends.enter_context, channel.pair())) for _ in range(self._siblings)]
                for mine, _ in pairs:
                    mine.send(accept.encode("latin-1")[:_MANY] or b"*/*")
                channel.send(self._channel, ASKED, [theirs.fileno() for _, theirs in pairs])
            except OSError:  # the supervisor is gone, or busy, or no file can be opened: it speaks for itself
                return []
            for _, theirs in pairs:
                theirs.close()
            found = await asyncio.gather(*(_said(mine) for mine, _ in pairs))
        return [one for one in found if one]


async def _said(sibling: socket.socket) -> bytes:
    """Whole lines, as it may die between two; nothing of what comes too late."""
    loop, parts = asyncio.get_running_loop(), []
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            while part := await loop.sock_recv(sibling, _MANY):
                parts.append(part)
    except (TimeoutError, OSError):
        return b""
    said = b"".join(parts)
    return said[: said.rfind(b"\n") + 1]
