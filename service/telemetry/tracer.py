"""Which requests are traced, under which ids, and what becomes of their notes."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits
from typing import Any, Literal

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanKind, TraceFlags, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import service
from service.logs import event
from service.telemetry.outbox import Outbox
from service.telemetry.spans import Spans, size_of
from service.telemetry.variables import Sending
from service.tracing import Trace, follow

Headers = Sequence[tuple[bytes, bytes]]
Finished = tuple[Trace, float]
"""A trace, and when it ended."""

_SECONDS_BETWEEN_WARNINGS = 60.0
_PARENT = b"traceparent"


class _HeaderGetter(Getter[Headers]):
    """ASGI's headers, as the library's propagator asks for them."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """A second `traceparent` makes both invalid (W3C Trace Context, 3.2); `tracestate` may come in parts."""
        wanted = key.encode()
        found = [value.decode("latin-1") for name, value in carrier if name == wanted]
        return None if not found or (wanted == _PARENT and len(found) > 1) else found

    def keys(self, carrier: Headers) -> list[str]:
        """All names."""
        return [name.decode("latin-1") for name, _ in carrier]


class _LastWords(logging.Handler):
    """What the library last complained of, and never its lines: a client can cause one with each request."""

    said = ""
    form = ""  # the same, without the values in it: a header that is not understood may be a key

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        self.said, self.form = record.getMessage(), str(record.msg)


class Tracer:
    """Belongs to the event loop. Neither method waits for anything."""

    def __init__(self, sending: Sending) -> None:
        """The sampler, the resource, and what the exporter needs beside the endpoint (headers, certificates, time
        limit, compression) are the library's, by its variables."""
        self._endpoint = sending.endpoint
        self._words = _LastWords()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._words], False
        resource = _resource()
        self._sampler = TracerProvider(resource=resource, shutdown_on_exit=False).sampler
        self._propagator, self._getter = TraceContextTextMapPropagator(), _HeaderGetter()
        self._exporter = OTLPSpanExporter()
        self._spans = Spans(resource, InstrumentationScope("embedserve", service.__version__))
        if self._words.form:
            event(logging.WARNING, f"a variable OTEL_* is not understood: {self._words.form}")
        self._words.said = ""
        self._warn_at = 0.0
        self._outbox: Outbox[Finished] = Outbox(
            self._send, lambda one: size_of(one[0]), sending.most_waiting, sending.most_at_once, sending.delay
        )

    @property
    def told(self) -> dict[str, str]:
        """Where spans go, and of which requests."""
        return {"endpoint": self._endpoint, "sampler": self._sampler.get_description()}

    def begin(self, headers: Headers, name: str, attributes: Mapping[str, Any], begins: float) -> Trace:
        """A request's, which this task's is from now on. The sampler sees the `attributes`, which the server span will
        have; `begins` by time.perf_counter."""
        context = Context()
        if any(one[0] == _PARENT for one in headers):
            context = self._propagator.extract(headers, context, self._getter)
        parent = get_current_span(context).get_span_context()
        trace_id = parent.trace_id if parent.is_valid else getrandbits(128) or 1
        random = parent.trace_flags & TraceFlags.RANDOM_TRACE_ID if parent.is_valid else TraceFlags.RANDOM_TRACE_ID
        sampled = self._sampler.should_sample(context, trace_id, name, SpanKind.SERVER, attributes)
        flags = random | (TraceFlags.SAMPLED if sampled.decision is Decision.RECORD_AND_SAMPLE else 0)
        trace = Trace(name, trace_id, getrandbits(64) or 1, flags, begins)
        trace.parent = parent if parent.is_valid else None
        trace.state = sampled.trace_state
        if trace.is_sampled:
            trace.tell(attributes)
        follow(trace)
        return trace

    def finish(self, trace: Trace) -> None:
        """It has been answered."""
        trace.is_over = True
        if trace.is_sampled:
            self._outbox.put((trace, time.perf_counter()))

    def counts(self) -> Mapping[Literal["exported", "failed", "dropped"], Callable[[], float]]:
        """Spans so far: taken by the collector, refused by it or never arrived, and those that found no room here."""
        box = self._outbox
        return {"exported": lambda: box.sent, "failed": lambda: box.failed, "dropped": lambda: box.dropped}

    def close(self, seconds: float) -> None:
        """Sends the last ones, for so long at most. Blocks."""
        self._outbox.close(seconds)
        if left := self._outbox.waiting:
            event(logging.WARNING, f"{left} spans were not sent in time", endpoint=self._endpoint)
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, finished: Sequence[Finished]) -> bool:
        """On the outbox's thread."""
        spans = [span for trace, ends in finished for span in self._spans.of(trace, ends)]
        if self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return True
        if time.monotonic() >= self._warn_at:
            self._warn_at = time.monotonic() + _SECONDS_BETWEEN_WARNINGS
            event(
                logging.WARNING,
                "spans could not be sent; requests do not wait for them",
                endpoint=self._endpoint,
                because=self._words.said,
            )
        return False


def _resource() -> Resource:
    """What the operator says, and where nothing is said, what this process knows of itself."""
    own = {
        "service.name": "embedserve",
        "service.version": service.__version__,
        "service.instance.id": str(uuid.uuid4()),
    }
    told = OTELResourceDetector().detect().attributes  # of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    return Resource.create({**own, **told})
