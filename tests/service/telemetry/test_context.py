"""W3C Trace Context and the samplers, beside OpenTelemetry's own."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, TraceIdRatioBased
from opentelemetry.trace import SpanContext, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.context import Parent, context_of, parent_of, sampler, state_of

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEX = st.text("0123456789abcdef", min_size=1, max_size=40)


def theirs(value: str) -> SpanContext:
    """What the library reads of a header."""
    found = TraceContextTextMapPropagator().extract({"traceparent": value}, Context())
    return get_current_span(found).get_span_context()


def ours(value: str) -> Parent | None:
    return parent_of([(b"traceparent", value.encode())])


FORMS = st.tuples(
    st.sampled_from(["00", "01", "cc", "ff", "0", "GG"]),
    st.sampled_from([TRACE, "0" * 32]) | HEX,
    st.sampled_from([SPAN, "0" * 16]) | HEX,
    st.sampled_from(["00", "01", "02", "03", "ff", "1", "x1"]),
).map("-".join)


@given(st.tuples(st.sampled_from(["", " ", "\t"]), FORMS, st.sampled_from(["", "-", "-more", " ", "0"])).map("".join))
@example(f"00-{TRACE}-{SPAN}-01")
@example(f"01-{TRACE}-{SPAN}-01-what-is-to-come")
def test_it_reads_what_the_library_reads(value: str) -> None:
    read, wanted = ours(value), theirs(value)
    if read is None:
        assert not wanted.is_valid
    else:
        ids = int(read.trace_id, 16), int(read.span_id, 16), read.flags
        assert ids == (wanted.trace_id, wanted.span_id, wanted.trace_flags)


def test_of_two_none_is_read() -> None:
    header = (b"traceparent", f"00-{TRACE}-{SPAN}-01".encode())
    assert parent_of([header, (b"host", b"a")]) == Parent(TRACE, SPAN, 1)
    assert parent_of([header, header]) is None
    assert parent_of([]) is None


def test_state_comes_in_lines_and_ends_somewhere() -> None:
    assert state_of([(b"tracestate", b"a=1"), (b"x", b"y"), (b"tracestate", b"b=2")]) == "a=1,b=2"
    assert state_of([(b"tracestate", b"a=" + b"x" * 600)]) == ""


@given(st.integers(1, 2**128 - 1), st.sampled_from([0.0, 0.01, 0.5, 0.999, 1.0]))
def test_a_share_is_that_of_the_library(trace_id: int, share: float) -> None:
    library: Sampler = TraceIdRatioBased(share)
    wanted = library.should_sample(Context(), trace_id, "").decision is Decision.RECORD_AND_SAMPLE
    assert sampler("traceidratio", share).keeps(f"{trace_id:032x}", None) == wanted


@pytest.mark.parametrize(("flags", "is_kept"), [(0, False), (1, True), (2, False), (3, True)])
def test_who_asks_the_caller_does_as_the_caller(flags: int, is_kept: bool) -> None:
    caller = Parent(TRACE, SPAN, flags)
    assert sampler("parentbased_always_on", 1).keeps(TRACE, caller) is is_kept
    assert sampler("parentbased_always_off", 0).keeps(TRACE, caller) is is_kept
    assert sampler("always_on", 1).keeps(TRACE, caller)
    assert not sampler("always_off", 0).keeps(TRACE, caller)


def test_a_span_has_its_own_id_in_the_callers_trace() -> None:
    on = sampler("parentbased_always_on", 1)
    inside = context_of(Parent(TRACE, SPAN, 3), on)
    assert (inside.trace_id, inside.flags, inside.is_sampled) == (TRACE, 3, True)
    assert inside.span_id not in (SPAN, context_of(Parent(TRACE, SPAN, 3), on).span_id)
    assert inside.response == f"00-{TRACE}-{inside.span_id}-03"
    root = context_of(None, on)
    assert root.trace_id != context_of(None, on).trace_id
    assert root.flags == 3
