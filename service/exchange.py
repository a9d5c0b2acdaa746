"""A way past ASGI's messages: what they cost a short request is more than its tokenising."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

END_OF_HEAD = b"\r\n\r\n"
_NAME = "embedserve.exchange"  # of ASGI's extension


class Connection(Protocol):
    """What an exchange needs of `protocol`."""

    loop: asyncio.AbstractEventLoop
    is_lost: bool
    is_surplus: bool
    waiting: asyncio.Task[None] | None

    @property
    def is_draining(self) -> bool:
        """Whether the connection is to end with the next reply."""

    def own_lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Those that every reply has."""

    def hang_up(self) -> None:
        """When what was written has been taken."""


class Exchange:
    """One request and its reply, by calls instead of messages. ASGI's own messages work beside it."""

    __slots__ = ("_connection", "_cycle", "_more", "loop", "task")

    task: asyncio.Task[None]  # that answers it

    def __init__(self, connection: Connection, cycle: RequestResponseCycle) -> None:
        self._more = b""
        self._connection = connection
        self._cycle = cycle
        self.loop = connection.loop

    def extensions(self) -> dict[str, dict[object, object]]:
        """Of the scope of such a request, where `of` finds it."""
        return {_NAME: {"of": self}}

    @staticmethod
    def of(scope: Scope) -> Exchange:
        """That of an ASGI request of this protocol's."""
        found: Exchange = scope["extensions"][_NAME]["of"]
        return found

    def whole_body(self) -> bytes | None:
        """The body, if all of it has come; nothing of it was received by messages then."""
        cycle = self._cycle
        if cycle.more_body or cycle.disconnected or cycle.waiting_for_100_continue:
            return None
        return bytes(cycle.body)

    @property
    def is_surplus(self) -> bool:
        """Whether it came on a connection beyond the limit, which ends with the reply."""
        return self._connection.is_surplus

    @property
    def is_gone(self) -> bool:
        """Whether the client has closed the connection."""
        return self._connection.is_lost

    def cancel_when_gone(self, wanted: bool) -> None:
        """Whether its task is to be cancelled when the client closes the connection."""
        self._connection.waiting = self.task if wanted else None

    def add_headers(self, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """To the reply, beside those that it comes with. They are the server's own, and hold no line breaks."""
        self._more += b"".join([b"\r\n%b: %b" % header for header in headers])

    async def reply(
        self, status: int, headers: Sequence[tuple[str, str]], body: bytes, more: Sequence[bytes] = ()
    ) -> None:
        """The whole reply, when the client takes it: in one write, but for what is `more` than that, as a copy of many
        megabytes would take its time. `headers` say the length and what kind it is."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        cycle.disconnected |= self._connection.is_lost  # uvicorn tells only the last of pipelined requests
        if cycle.disconnected:
            return
        head = header_lines(headers)
        if "\r\nconnection: close" in head:
            cycle.keep_alive = False
        elif not cycle.keep_alive or self._connection.is_draining:
            cycle.keep_alive = False
            head += "\r\nconnection: close"
        if cycle.scope["method"] == "HEAD":
            body, more = b"", ()
        cycle.response_started = cycle.response_complete = True
        own = self._connection.own_lines(cycle.default_headers)
        parts = STATUS_LINE[status][:-2], own, self._more, head.encode("latin-1"), END_OF_HEAD, body
        cycle.transport.write(b"".join(parts))
        if more:
            cycle.transport.writelines(more)
        if not cycle.keep_alive:
            self._connection.hang_up()
        cycle.on_response()


def header_lines(headers: Sequence[tuple[str, str]]) -> str:
    """Lines, each behind its line break. Raises ValueError where a header holds one of its own."""
    head = "".join([f"\r\n{name}: {value}" for name, value in headers])
    if head.count("\n") != len(headers) or head.count("\r") != len(headers) or "\0" in head:
        raise ValueError("a header holds a line break")
    return head
