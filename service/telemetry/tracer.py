"""Which requests are traced, under which ids, and what becomes of their notes."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import service
from service.logs import event
from service.telemetry.collector import Collector
from service.telemetry.context import Parent, context_of, sampler
from service.telemetry.outbox import Outbox
from service.telemetry.spans import Spans, size_of
from service.telemetry.variables import Sending
from service.tracing import Context, Trace

Finished = tuple[Trace, float]
"""A trace, and when it ended."""

_SECONDS_BETWEEN_WARNINGS = 60.0
# Where an operator has set one of these, what it names makes the exporter's session.
_OWN_SESSION = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
)


class _LastWords(logging.Handler):
    """What the library last complained of, and never its lines: a client can cause one with each request."""

    said = ""
    form = ""  # the same, without the values in it: a header that is not understood may be a key

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        self.said, self.form = record.getMessage(), str(record.msg)


class _Warning:
    """A line of the log, once a minute at most."""

    def __init__(self, message: str, endpoint: str) -> None:
        self._message, self._endpoint = message, endpoint
        self._next = 0.0
        self.is_over = False  # nobody is to be told any more

    def tell(self, because: str) -> None:
        """If it is time to."""
        if time.monotonic() >= self._next and not self.is_over:
            self._next = time.monotonic() + _SECONDS_BETWEEN_WARNINGS
            event(logging.WARNING, self._message, endpoint=self._endpoint, because=because)


class Tracer:
    """Belongs to the event loop. Neither method waits for anything."""

    def __init__(self, sending: Sending) -> None:
        """The resource, and what the exporter needs beside the endpoint (headers, certificates, time limit,
        compression) are the library's, by its variables."""
        self.told = {"endpoint": sending.endpoint, "sampler": sending.sampler, "share": sending.share}  # for people
        self._words = _LastWords()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._words], False
        self._sampler = sampler(sending.sampler, sending.share)
        self._collector = Collector()
        has_own = any(os.environ.get(name) for name in _OWN_SESSION)
        self._exporter = OTLPSpanExporter(session=None if has_own else self._collector)
        self._spans = Spans(_resource(), InstrumentationScope("embedserve", service.__version__))
        if self._words.form:
            event(logging.WARNING, f"a variable OTEL_* is not understood: {self._words.form}")
        self._words.said = ""
        self._failed = _Warning("spans could not be sent; requests do not wait for them", sending.endpoint)
        self._dropped = _Warning("spans were dropped, as too many wait to be sent", sending.endpoint)
        self._outbox: Outbox[Finished] = Outbox(
            self._send, lambda one: size_of(one[0]), sending.most_waiting, sending.most_at_once, sending.delay
        )

    def context(self, parent: Parent | None) -> Context:
        """Of a request's server span."""
        return context_of(parent, self._sampler)

    def finish(self, trace: Trace) -> None:
        """It has been answered."""
        trace.is_over = True
        if not self._outbox.put((trace, time.perf_counter())):
            self._dropped.tell("the collector is slow, or OTEL_BSP_MAX_QUEUE_SIZE small")

    def counts(self) -> Mapping[Literal["exported", "failed", "dropped"], Callable[[], float]]:
        """Spans so far: taken by the collector, refused by it or never arrived, and those that found no room here."""
        box = self._outbox
        return {"exported": lambda: box.sent, "failed": lambda: box.failed, "dropped": lambda: box.dropped}

    def close(self, seconds: float) -> None:
        """Sends the last ones, for so long at most. Blocks."""
        self._outbox.close(seconds)
        self._failed.is_over = self._dropped.is_over = True  # the thread may go on behind the log's last word
        if left := self._outbox.unsent:
            event(logging.WARNING, f"{left} spans were not sent in time", endpoint=self.told["endpoint"])
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _send(self, finished: Sequence[Finished]) -> int:
        """On the outbox's thread."""
        spans = [span for trace, ends in finished for span in self._spans.of(trace, ends)]
        self._collector.said = ""
        is_taken = self._exporter.export(spans) is SpanExportResult.SUCCESS
        taken = max(len(spans) - self._collector.rejected, 0) if is_taken else 0
        if taken < len(spans):
            self._failed.tell(self._collector.said or self._words.said)
        return taken


def _resource() -> Resource:
    """What the operator says, and where nothing is said, what this process knows of itself."""
    own = {
        "service.name": "embedserve",
        "service.version": service.__version__,
        "service.instance.id": str(uuid.uuid4()),
    }
    told = OTELResourceDetector().detect().attributes  # of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    return Resource.create({**own, **told})
