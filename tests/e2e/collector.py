"""A collector of OpenTelemetry's: OTLP over HTTP, decoded by the protocol's own messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from tests.e2e.process import wait_until


@dataclass(frozen=True)
class Span:
    """One, with its ids in hexadecimal, times in nanoseconds, and plain attributes. `parent` is empty for a root."""

    name: str
    trace: str
    id: str
    parent: str
    state: str
    kind: int
    begins: int
    ends: int
    status: int
    attributes: dict[str, Any] = field(hash=False)


class Collector:
    """Listens on a free port of the loopback."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies: list[bytes] = []
        self.status = 200  # of its answers
        self.body = b""  # of them
        self.drips = False  # it goes on with its answer for ever
        self.answers = threading.Event()  # cleared, it takes what comes and says nothing
        self.answers.set()
        self.paths: set[str] = set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        """Answers nobody any more."""
        self.answers.set()
        self.drips = False
        self._http.shutdown()
        self._http.server_close()

    def received(self) -> bytes:
        """All bodies that were answered with 200, one after another."""
        with self._lock:
            return b"".join(self._bodies)

    def resources(self) -> list[dict[str, Any]]:
        """Of all messages."""
        return [_plain(one.resource.attributes) for message in self._messages() for one in message.resource_spans]

    def spans(self, trace: str | None = None) -> list[Span]:
        """All that came so far, or those of one trace."""
        found = [
            Span(
                one.name,
                one.trace_id.hex(),
                one.span_id.hex(),
                one.parent_span_id.hex(),
                one.trace_state,
                one.kind,
                one.start_time_unix_nano,
                one.end_time_unix_nano,
                one.status.code,
                _plain(one.attributes),
            )
            for message in self._messages()
            for resource in message.resource_spans
            for scope in resource.scope_spans
            for one in scope.spans
        ]
        return [one for one in found if trace in (None, one.trace)]

    def server_span(self, trace: str) -> Span:
        """That of a trace of one request, which is waited for."""
        return next(one for one in self.whole(trace) if one.kind == _SERVER)

    def whole(self, trace: str) -> list[Span]:
        """The spans of a trace, when its server span has come, which comes last."""
        wait_until(lambda: any(one.kind == _SERVER for one in self.spans(trace)), f"the spans of {trace}")
        return self.spans(trace)

    def _messages(self) -> list[ExportTraceServiceRequest]:
        with self._lock:
            return [ExportTraceServiceRequest.FromString(body) for body in self._bodies]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.answers.wait()
                with collector._lock:
                    collector.paths.add(self.path)
                    if collector.status == 200:
                        collector._bodies.append(body)
                self.send_response(collector.status)
                self.send_header("content-length", str(10**6 if collector.drips else len(collector.body)))
                self.end_headers()
                self.wfile.write(collector.body)
                while collector.drips:
                    self.wfile.write(b"x")
                    time.sleep(0.05)

            def handle(self) -> None:
                with suppress(ConnectionError):  # whoever asked has gone
                    super().handle()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler


_SERVER = 2


def _plain(attributes: Sequence[KeyValue]) -> dict[str, Any]:
    return {one.key: _value(one.value) for one in attributes}


def _value(value: AnyValue) -> Any:
    return getattr(value, value.WhichOneof("value") or "string_value")
