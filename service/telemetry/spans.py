"""A request's notes → its spans. Pure.

The server span is OpenTelemetry's for HTTP (semantic conventions 1.44, `http`), with the attributes for embeddings of
generative AI (`gen_ai`, in development) where it is one. Its children are the request's phases and the batches it was
in; `embedserve.*` are this project's own. Nothing in them is a client's text but what is one of a few known words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from random import getrandbits
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from service.tracing import QUEUE, Phase, Run, Trace

_UNSET, _ERROR = Status(), Status(StatusCode.ERROR)


class Spans:
    """Makes them, of one process."""

    def __init__(self, resource: Resource, scope: InstrumentationScope) -> None:
        self._resource = resource
        self._scope = scope

    def of(self, trace: Trace, ends: float) -> list[ReadableSpan]:
        """The server span comes last, as it ends last."""
        of, state = trace.context, TraceState.from_header([trace.state] if trace.state else [])
        trace_id, flags = int(of.trace_id, 16), TraceFlags(of.flags)
        own = SpanContext(trace_id, int(of.span_id, 16), False, flags, state)
        caller = None if trace.parent is None else SpanContext(trace_id, int(trace.parent, 16), True, flags, state)
        error = trace.attributes.get("error.type")
        children = [
            self._span(trace, own, _with_new_id(own), *child)
            for child in (*_phases(trace, ends, error), *map(_run, trace.runs))
        ]
        server = trace.name, trace.begins, ends, trace.attributes, error is not None
        return [*children, self._span(trace, caller, own, *server, kind=SpanKind.SERVER)]

    def _span(
        self,
        trace: Trace,
        parent: SpanContext | None,
        own: SpanContext,
        name: str,
        begins: float,
        ends: float,
        attributes: Mapping[str, Any],
        is_error: bool,
        kind: SpanKind = SpanKind.INTERNAL,
    ) -> ReadableSpan:
        return ReadableSpan(
            name,
            own,
            parent,
            self._resource,
            attributes,
            kind=kind,
            status=_ERROR if is_error else _UNSET,
            start_time=_on_the_wall(trace, begins),
            end_time=_on_the_wall(trace, ends),
            instrumentation_scope=self._scope,
        )


_Child = tuple[str, float, float, Mapping[str, Any], bool]
"""Name, beginning, end, attributes, and whether it failed."""


def size_of(trace: Trace) -> int:
    """How many spans will be made."""
    return 1 + len(trace.phases) + len(trace.runs)


def _phases(trace: Trace, ends: float, error: str | None) -> Iterator[_Child]:
    """Each until the next one; a queue until the first batch that was waited for. What failed was at the last one."""
    for phase, after in pairwise([*trace.phases, Phase("", ends)]):
        has_failed = error is not None and after.begins == ends
        yield (
            phase.name,
            phase.begins,
            _queue_ends(phase, after, trace) if phase.name == QUEUE else after.begins,
            {"error.type": error} if has_failed else {},
            has_failed,
        )


def _queue_ends(phase: Phase, after: Phase, trace: Trace) -> float:
    runs = (run.begins for run, _ in trace.runs if phase.begins <= run.begins < after.begins)
    return min(runs, default=after.begins)


def _run(noted: tuple[Run, int]) -> _Child:
    run, rows = noted
    attributes: dict[str, Any] = {
        "embedserve.rows": rows,
        "embedserve.batch.number": run.number,
        "embedserve.batch.rows": run.rows,
        "embedserve.batch.tokens": run.tokens,
        "embedserve.batch.is_lone": run.is_lone,
        "embedserve.executor": run.executor,
    }
    if run.error is not None:
        attributes["error.type"] = run.error
    return "run", run.begins, run.ends, attributes, run.error is not None


def _with_new_id(context: SpanContext) -> SpanContext:
    return SpanContext(context.trace_id, getrandbits(64) or 1, False, context.trace_flags, context.trace_state)


def _on_the_wall(trace: Trace, moment: float) -> int:
    """Nanoseconds since 1970."""
    return trace.begins_at + int(1e9 * (moment - trace.begins))
