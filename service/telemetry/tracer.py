"""Which requests are traced, under which ids, and what becomes of their notes."""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import requests
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

import service
from service.logs import event
from service.telemetry.context import Parent, context_of, sampler
from service.telemetry.outbox import Outbox
from service.telemetry.spans import Spans, size_of
from service.telemetry.variables import Sending
from service.tracing import Context, Trace

Finished = tuple[Trace, float]
"""A trace, and when it ended."""

_SECONDS_BETWEEN_WARNINGS = 60.0


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
        """The resource, and what the exporter needs beside the endpoint (headers, certificates, time limit,
        compression) are the library's, by its variables."""
        self.told = {"endpoint": sending.endpoint, "sampler": sending.sampler, "share": sending.share}  # for people
        self._words = _LastWords()
        library = logging.getLogger("opentelemetry")
        library.handlers, library.propagate = [self._words], False
        self._sampler = sampler(sending.sampler, sending.share)
        self._exporter = OTLPSpanExporter(session=_session())
        self._spans = Spans(_resource(), InstrumentationScope("embedserve", service.__version__))
        if self._words.form:
            event(logging.WARNING, f"a variable OTEL_* is not understood: {self._words.form}")
        self._words.said = ""
        self._warn_at = 0.0
        self._outbox: Outbox[Finished] = Outbox(
            self._send, lambda one: size_of(one[0]), sending.most_waiting, sending.most_at_once, sending.delay
        )

    def context(self, parent: Parent | None) -> Context:
        """Of a request's server span."""
        return context_of(parent, self._sampler)

    def finish(self, trace: Trace) -> None:
        """It has been answered."""
        trace.is_over = True
        self._outbox.put((trace, time.perf_counter()))

    def counts(self) -> Mapping[Literal["exported", "failed", "dropped"], Callable[[], float]]:
        """Spans so far: taken by the collector, refused by it or never arrived, and those that found no room here."""
        box = self._outbox
        return {"exported": lambda: box.sent, "failed": lambda: box.failed, "dropped": lambda: box.dropped}

    def close(self, seconds: float) -> None:
        """Sends the last ones, for so long at most. Blocks."""
        self._outbox.close(seconds)
        if left := self._outbox.waiting:
            event(logging.WARNING, f"{left} spans were not sent in time", endpoint=self.told["endpoint"])
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
                endpoint=self.told["endpoint"],
                because=self._words.said,
            )
        return False


def _session() -> requests.Session | None:
    """The exporter follows no redirect, and takes it for success. None where the operator has named what makes them."""
    if os.environ.get("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER") or os.environ.get(
        "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER"
    ):
        return None
    made = requests.Session()
    made.hooks["response"].append(_refuse_redirect)
    return made


def _refuse_redirect(response: requests.Response, **_: object) -> None:
    if 300 <= response.status_code < 400:
        raise requests.HTTPError(f"status {response.status_code}: a redirect is not followed")


def _resource() -> Resource:
    """What the operator says, and where nothing is said, what this process knows of itself."""
    own = {
        "service.name": "embedserve",
        "service.version": service.__version__,
        "service.instance.id": str(uuid.uuid4()),
    }
    told = OTELResourceDetector().detect().attributes  # of OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME
    return Resource.create({**own, **told})
