"""uvicorn's HTTP/1.1 protocol with limits on what is neither a complete head nor a body, which its C parser lacks.

- A head (request line and headers) ends within MAX_HEAD_BYTES and the client's time, or the connection does.
- A head names one host, and no coding of its body but chunks: what a proxy may have read in another way is refused.
- A client has `client_timeout` seconds for a head, for what is left of a body that nobody reads, and for taking
  SLOWEST bytes a second of a reply; then the connection is reset and counted. `api.http` has the bodies that are read.
- What is around a body's pieces, and bodies that nobody reads, are bounded in bytes.
- What has arrived is parsed in pieces, while few requests of the connection wait and for a few milliseconds a turn: ten
  megabytes of pipelined heads, or of chunks of one byte, would otherwise take a gigabyte and hold the event loop.
- Trailer fields after a chunked body are dropped: nobody reads them, and as headers they would pass behind the back
  of a proxy that filters headers.
- Upgrades are not offered, so that a wish for one is ignored, as RFC 9110, 7.8 allows: Java's own client wishes for
  h2c with its first request. The parser stops behind such a head and would take its body for the next request; so
  another one reads the same head without the wish, and goes on.

- Beyond so many connections, some more are answered once, and only where a probe asks; whoever comes after those is
  turned away without a word. So the process never runs out of files, and can be looked at while it is full.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
import time
import urllib.parse
from collections.abc import Callable, Sequence

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn._types import ASGI3Application, ASGIVersions
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service import metrics
from service.exchange import END_OF_HEAD, Exchange, header_lines
from service.patience import SLOWEST, Patience

MAX_HEAD_BYTES = 64 * 1024
SURPLUS_CONNECTIONS = 64  # beyond the limit, each for one request
MAX_OVERHEAD_BYTES = 2 * MAX_HEAD_BYTES
MAX_UNREAD_BYTES = 16 * 2**20
GOODBYE_SECONDS = 2.0
# A body of chunks of one byte has five bytes around each.
_OVERHEAD_RATIO = 9

# What a client may owe; a connection that is reset for it is counted by this name.
_HEAD = "slow_head"
_BODY = "slow_body"
_READER = "slow_reader"
_IDLE = "idle"
_GOODBYE = "goodbye"

_PIECE_BYTES = 8 * 1024  # that the parser gets at once
_TURN_SECONDS = 0.005  # of parsing, until others get their turn
_MOST_PIPELINED = 16  # requests that wait behind the one being answered, beside those of the same piece

_ASGI: ASGIVersions = {"version": "3.0", "spec_version": "2.3"}
_UPGRADE = b"upgrade"
_INVALID = "Invalid HTTP request received."
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for 0 seconds
_TOO_LARGE = f"The head of the request has more than {MAX_HEAD_BYTES} bytes."


class State(ServerState):
    """What uvicorn's connections share, and whether each is to end with its next reply."""

    is_draining = False
    max_connections: float = math.inf
    client_timeout = 30.0  # seconds, as the setting
    closed: Callable[[], None] = staticmethod(lambda: None)  # called when a connection is gone

    _lines: tuple[Sequence[tuple[bytes, bytes]], bytes] = (), b""

    def lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Of uvicorn's own headers, which are the same for a second: the date, and what its Config says."""
        of, lines = self._lines
        if of is not headers:
            lines = b"".join([b"\r\n%b: %b" % header for header in headers])
            self._lines = headers, lines
        return lines


class _Flow(FlowControl):
    """Reading is paused while uvicorn wants it so, or while bytes are held that were read already."""

    _is_held = _is_asked = False

    def pause_reading(self) -> None:
        """uvicorn's wish."""
        self._is_asked = True
        super().pause_reading()

    def resume_reading(self) -> None:
        """uvicorn's wish."""
        self._is_asked = False
        if not self._is_held:
            super().resume_reading()

    def hold(self, is_held: bool) -> None:
        """Ours."""
        self._is_held = is_held
        if is_held:
            super().pause_reading()
        elif not self._is_asked:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """Counts what arrives between the parser's calls for heads and bodies, and waits for clients only so long."""

    flow: _Flow

    is_lost = False
    is_surplus = False
    waiting: asyncio.Task[None] | None = None  # what is of no use once the connection is lost

    _is_going_on = False  # whether the event loop will call `_go_on`
    _in_head = True
    _head_bytes = 0  # of earlier pieces
    _head_tail = b""  # the last of them, which may be the first of the head's end
    _overhead_bytes = 0  # received since the head's end beyond what its body accounts for
    _unread_bytes = 0  # of a body that was answered before it had come
    _unsent_bytes = 0  # when it was looked at last how much the client takes
    _without_upgrade = b""  # the head that was read last with a wish for one
    _last_reply = b""  # what ends the connection once all that was asked before has been answered
    _is_leaving = False  # the last reply is on its way, and what comes is of no interest

    @property
    def state(self) -> State:
        """What all connections share."""
        found: State = self.server_state  # type: ignore[assignment]
        return found

    def own_lines(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """uvicorn's own headers, as lines of a head."""
        return self.state.lines(headers)

    @property
    def is_draining(self) -> bool:
        """Whether the client is to go elsewhere after this reply; what it has sent already is answered first."""
        return (self.state.is_draining and not self.pipeline and not self._held) or self.is_surplus

    # --- connections ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The time for the first head begins."""
        super().connection_made(transport)
        self.flow = _Flow(transport)
        self._held = bytearray()  # read, but not parsed yet
        self._patience = Patience(self.loop, self._overdue)
        self._patience.expect(_HEAD, self.state.client_timeout)
        if len(self.connections) > (most := self.state.max_connections):
            self.is_surplus = True
            if len(self.connections) > most + SURPLUS_CONNECTIONS:
                transport.abort()
                return

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._patience.end()
        super().connection_lost(exc)
        self.is_lost = True
        self.state.closed()
        if self.waiting is not None:
            self.waiting.cancel()

    def hang_up(self) -> None:
        """Closes the connection when what was written has been taken.

        Where a body is still coming, closing at once would be a reset, which may overtake the reply: so the client is
        told first that nothing more comes, and what it sends is thrown away for a while.
        """
        if not self._in_head and self.transport.can_write_eof():
            self._say_goodbye()
            return
        if self.transport.get_write_buffer_size():
            self._expect_reader()
        self.transport.close()

    def _say_goodbye(self) -> None:
        self._is_leaving = True
        self._held.clear()
        self.flow.hold(False)
        self.flow.resume_reading()
        self.transport.write_eof()
        self._patience.expect(_GOODBYE, GOODBYE_SECONDS)

    def _cut(self, reason: str) -> None:
        """Resets the connection, so that nothing of it stays in memory, not even in the kernel's."""
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()

    def _overdue(self, what: str) -> None:
        """What the client owes has not come in its time."""
        if what == _READER and self._is_being_read():
            self._expect_reader()
        elif what == _HEAD and self._is_answering:
            self._patience.expect(_HEAD, self.state.client_timeout)  # it may have come: reading pauses at times
        elif what in (_IDLE, _GOODBYE):
            self.transport.close()
        else:
            self._cut(what)

    @property
    def _is_answering(self) -> bool:
        return bool(self._held) or not (self.cycle is None or self.cycle.response_complete)

    # --- what the client takes --------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The transport's call when much of a reply has not been taken yet."""
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        """The transport's call when nearly all of it has."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._patience.came(_READER)

    def _expect_reader(self) -> None:
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._patience.expect(_READER, self.state.client_timeout)

    def _is_being_read(self) -> bool:
        taken = self._unsent_bytes - self.transport.get_write_buffer_size()
        return taken >= min(self._unsent_bytes, self.state.client_timeout * SLOWEST)

    # --- requests ---------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """uvicorn's, without a callback that the event loop would have to be asked for at each task's end."""
        exchange = Exchange(self, cycle)
        cycle.scope["extensions"] = exchange.extensions()
        exchange.task = self.loop.create_task(self._answer(exchange, cycle, app))
        self.tasks.add(exchange.task)

    async def _answer(self, exchange: Exchange, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        try:
            await cycle.run_asgi(app)
        finally:
            self.tasks.discard(exchange.task)
            # Scope, exchange and cycle hold each other: head and body would stay until garbage is collected.
            cycle.scope.pop("extensions", None)

    def data_received(self, data: bytes) -> None:
        """Short requests are parsed at once."""
        if self._is_leaving or self._last_reply:
            self._throw_away(len(data))
            return
        if not self._held and len(data) <= _PIECE_BYTES and len(self.pipeline) < _MOST_PIPELINED:
            self._parse(data)
            return
        self._held += data
        if not self._is_going_on:
            self._go_on()

    def _go_on(self) -> None:
        """Parses what is held, as far as it may."""
        self._is_going_on = False
        until = time.perf_counter() + _TURN_SECONDS
        while self._held and len(self.pipeline) < _MOST_PIPELINED and not self.transport.is_closing():
            if time.perf_counter() > until:
                self._go_on_soon()
                break
            piece = bytes(self._held[:_PIECE_BYTES])
            del self._held[:_PIECE_BYTES]
            self._parse(piece)
        if self.transport.is_closing():
            self._held.clear()
        else:
            self.flow.hold(bool(self._held or (self._last_reply and not self._is_leaving)))

    def _go_on_soon(self) -> None:
        if not self._is_going_on:
            self._is_going_on = True
            self.loop.call_soon(self._go_on)

    def _parse(self, data: bytes) -> None:
        """The last piece of a head may hold some of the body."""
        if self._in_head:
            head = self._head_of(data)
            if self._head_bytes + len(head) > MAX_HEAD_BYTES:
                self._refuse_head()
                return
            if len(head) == len(data):
                self._expect_more(head)
        self._overhead_bytes += len(data)
        self._feed(data)
        if self._overhead_bytes > MAX_OVERHEAD_BYTES:  # trailer fields, or chunks' extensions, without end
            self._cut("endless_body")

    def _head_of(self, data: bytes) -> bytes:
        """What belongs to it of a piece; its end's own four bytes may have come in two, and do not."""
        known = len(self._head_tail)
        end = (self._head_tail + data).find(END_OF_HEAD)
        return data if end < 0 else data[: max(0, end - known)]

    def _expect_more(self, head: bytes) -> None:
        if not self._head_bytes:
            self._patience.came(_IDLE)
            self._patience.expect(_HEAD, self.state.client_timeout)
        self._head_bytes += len(head)
        self._head_tail = (self._head_tail + head)[1 - len(END_OF_HEAD) :]

    def _feed(self, data: bytes) -> None:
        """In place of uvicorn's."""
        while True:
            try:
                self.parser.feed_data(data)
            except HttpParserUpgrade as stop:
                data = self._without_upgrade + data[stop.args[0] :]
                self.parser = HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's first one
            except HttpParserError:
                self.logger.warning(_INVALID)
                self._refuse(400, _INVALID)
                return
            else:
                return

    def _refuse(self, status: int, text: str) -> None:
        """What is no request that anyone could answer; the connection is to end then.

        Whoever sends requests ahead takes the first reply for the first one's: what came before is answered first.
        """
        kind = ("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(text)))
        head = header_lines([*kind, ("cache-control", "no-store"), ("connection", "close")])
        own = self.own_lines(self.state.default_headers)
        self._last_reply = b"".join((STATUS_LINE[status][:-2], own, f"{head}\r\n\r\n{text}".encode()))
        self._held.clear()
        is_in_body = not self._in_head  # and then of the newest request, which will never be whole
        if is_in_body and self.pipeline:
            self.pipeline.popleft()
        elif is_in_body or not self._is_answering:
            self._send_last_reply()
            return
        self.flow.hold(True)

    def _send_last_reply(self) -> None:
        self.transport.write(self._last_reply)
        if self.transport.can_write_eof():
            self._say_goodbye()
        else:
            self.transport.close()

    def _decline(self) -> None:
        """Raises ValueError where a head is nothing without its wish for an upgrade."""
        method = self.parser.get_method()
        if method == b"CONNECT" or not any(name == _UPGRADE for name, _ in self.headers):
            raise ValueError("not to be declined")
        first = b"%b %b HTTP/%b\r\n" % (method, self.url, self.parser.get_http_version().encode())
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != _UPGRADE]
        self._without_upgrade = first + b"".join(lines) + b"\r\n"

    def on_message_begin(self) -> None:
        """The parser's call for a new head. In place of uvicorn's, as the scope is made once that has been read."""
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """The parser's call for a header, and for a trailer field. In place of uvicorn's."""
        if self._in_head:
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """The parser's call at the end of a head. Raises ValueError, which the parser makes a 400 of."""
        self._check_head()
        if self.parser.should_upgrade():
            self._decline()
            return
        self._in_head = False
        self._head_bytes = self._overhead_bytes = 0
        self._head_tail = b""
        self._patience.came(_HEAD)
        self._patience.came(_IDLE)
        self._begin_request()

    def _begin_request(self) -> None:
        """In place of uvicorn's, without what is never asked for here: every short request pays for it."""
        version, url = self.parser.get_http_version(), parse_url(self.url)
        path = url.path.decode("ascii")
        self.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "root_path": "",
            "headers": self.headers,
            "state": {},
            "method": self.parser.get_method().decode("ascii"),
            "path": urllib.parse.unquote(path) if "%" in path else path,
            "raw_path": url.path,
            "query_string": url.query or b"",
        }
        before = self.cycle
        self.cycle = RequestResponseCycle(
            self.scope,
            self.transport,
            self.flow,
            self.logger,
            self.access_logger,
            self.access_log,
            self.state.default_headers,
            asyncio.Event(),
            self.expect_100_continue,
            version != "1.0" and self.parser.should_keep_alive(),
            self.on_response_complete,
        )
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def _check_head(self) -> None:
        """What the parser lets pass (RFC 9112, 3.2 and 6.1). Raises ValueError."""
        one_each = dict(self.headers)
        if b"host" in one_each and b"transfer-encoding" not in one_each and len(one_each) == len(self.headers):
            return  # as nearly always
        hosts = self._values(b"host")
        if len(hosts) > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise ValueError("not one host")
        if self._values(b"transfer-encoding") not in ([], [b"chunked"]):
            raise ValueError("a coding that is not understood")

    def _values(self, header: bytes) -> list[bytes]:
        return [value.lower() for name, value in self.headers if name == header]

    def _refuse_head(self) -> None:
        metrics.CONNECTIONS_CUT.labels("large_head").inc()
        self._patience.came(_HEAD)
        self._refuse(431, _TOO_LARGE)

    def on_body(self, body: bytes) -> None:
        """The parser's call for a piece of a body."""
        self._overhead_bytes = max(0, self._overhead_bytes - _OVERHEAD_RATIO * len(body))
        cycle = self.cycle
        if cycle.response_complete:
            self._throw_away(len(body))
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _throw_away(self, size: int) -> None:
        self._unread_bytes += size
        if self._unread_bytes > MAX_UNREAD_BYTES:
            self._cut("unread_body")

    def on_message_complete(self) -> None:
        """The parser's call at the end of a request: the next head begins, with uvicorn's own limit of idle time."""
        if self._in_head:  # one that wishes for an upgrade, and is going to be read again
            return
        self._in_head = True
        self._overhead_bytes = 0
        cycle = self.cycle
        if cycle.response_complete:
            self._rest()
            return
        cycle.more_body = False
        cycle.message_event.set()
        if not self.pipeline:
            # A large body paused reading, and whoever has all of it asks for no more: nobody would see its client go.
            self.flow.resume_reading()

    def on_response_complete(self) -> None:
        """uvicorn's, with one timer a connection instead of one a request."""
        self.server_state.total_requests += 1
        if self._is_leaving or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self._held:
            self._go_on_soon()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._last_reply:
            self._send_last_reply()
        else:
            self._rest()

    def _rest(self) -> None:
        """Nothing is to be answered: the next request may come, or what is left of a body that nobody reads."""
        if self._in_head:
            self._patience.came(_BODY)
            self._patience.expect(_IDLE, self.timeout_keep_alive)
        else:
            self._unread_bytes = 0
            self._patience.expect(_BODY, self.state.client_timeout)

    def _unset_keepalive_if_required(self) -> None:
        """uvicorn's own timer is not used."""
