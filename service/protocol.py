"""uvicorn's HTTP/1.1 protocol with limits on what is neither a complete head nor a body, which its C parser lacks.

- A head (request line and headers) ends within MAX_HEAD_BYTES and HEAD_SECONDS, or the connection does.
- Trailer fields after a chunked body are dropped: nobody reads them, and as headers they would pass behind the back
  of a proxy that filters headers.
- Upgrades are not offered, so that a wish for one is ignored, as RFC 9110, 7.8 allows. Java's own client wishes for
  h2c with its first request, and the parser would stop before the body.
"""

from __future__ import annotations

import asyncio
import re

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 30.0

GONE = "embedserve.gone"

_END_OF_HEAD = b"\r\n\r\n"
_UPGRADE = re.compile(rb"\r\n(upgrade)(?=[ \t]*:)", re.IGNORECASE)
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Counts what arrives between the parser's calls for heads and bodies.

    `scope["extensions"][GONE]["future"]` is done when the connection is lost: waiting for that by ASGI's `receive`
    would take a task for every request.
    """

    _in_head = True
    _head_bytes = 0
    _silent_bytes = 0  # received since the last piece of a body
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time for the first head begins."""
        super().connection_made(transport)
        self._gone = self.loop.create_future()
        self._extensions: dict[str, dict[object, object]] = {GONE: {"future": self._gone}}
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)
        self._gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """The last piece of a head may hold some of the body."""
        if self._in_head:
            end = data.find(_END_OF_HEAD)
            head = data if end < 0 else data[:end]
            self._head_bytes += len(head)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.write(_TOO_LARGE)
                self.transport.close()
                return
            if end < 0:
                self._start_timer()
            if _UPGRADE.search(head):
                data = _UPGRADE.sub(rb"\r\nx-upgrade", head, count=1) + data[len(head) :]
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > 2 * MAX_HEAD_BYTES:  # trailer fields, or a chunk's extensions, without end
            self.transport.close()

    def on_message_begin(self) -> None:
        """The parser's call at the beginning of a request."""
        super().on_message_begin()
        self.scope["extensions"] = self._extensions

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's call for a header, and for a trailer field."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The parser's call at the end of a head."""
        self._in_head = False
        self._head_bytes = self._silent_bytes = 0
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The parser's call for a piece of a body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The parser's call at the end of a request: the next head begins, with uvicorn's own limit of idle time."""
        self._in_head = True
        self._silent_bytes = 0
        super().on_message_complete()

    def _start_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
