"""uvicorn's HTTP/1.1 protocol with a limit on request heads, which its C parser lacks."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024  # request line and headers

_REFUSAL = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head does not end within MAX_HEAD_BYTES, unread."""

    _head_bytes = 0
    _in_head = True

    def data_received(self, data: bytes) -> None:
        """Counts what arrives before a head is complete. The last piece of a head may hold some of the body."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and b"\r\n\r\n" not in data[:MAX_HEAD_BYTES]:
                self.transport.write(_REFUSAL)
                self.transport.close()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        """The parser's call at the end of a head."""
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The parser's call at the end of a request: the next head begins."""
        self._in_head = True
        self._head_bytes = 0
        super().on_message_complete()
