"""`python -m loadtest.trace_cost`: what traces cost a request, by CPU time, without a server.

Each part is called over and over in one thread, and its quickest round counts, so that it hardly matters what else the
machine does. In a busy server, whose code is seldom in the cache, the same takes two to three times as long.
"""

from __future__ import annotations

import argparse
import sys
import time
import timeit
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from loadtest import command
from loadtest.report import aligned
from service.api.traced import of_answer, of_model, of_request
from service.telemetry.context import context_of, parent_of, sampler
from service.tracing import AGGREGATE, ENCODE, QUEUE, TOKENISE, Run, Trace, enter, follow

with command.needing("embedserve[otel]"):
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

    from service.telemetry.spans import Spans

_ROUNDS = 60
_MESSAGE = 80  # traces, of six spans each
_SCOPE = {"method": "POST", "path": "/v1/embeddings", "scheme": "http", "http_version": "1.1"}
_HEADERS = [(name, b"value") for name in (b"host", b"content-type", b"content-length", b"accept", b"user-agent")]
_PARENT = [*_HEADERS, (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")]
_RUN = Run(1, 0.0, 1.0, 8, 256, "executor-cpu_0", False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("trace_cost", lambda: _measure(options.rounds))


def _measure(rounds: int) -> None:
    rows = [[what, f"{_microseconds(part, calls, rounds) / of:.2f}"] for what, part, calls, of in _parts()]
    print("\n".join(aligned([["of a request", "CPU µs"], *rows])))


def _parts() -> Iterator[tuple[str, Callable[[], object], int, int]]:
    """What it is, how it is called, how often in a round, and how many requests a call stands for."""
    yield "traces are off", _phases, 5_000, 1
    yield "not recorded", partial(_unrecorded, False), 2_000, 1
    yield "not recorded, with a traceparent", partial(_unrecorded, True), 2_000, 1
    yield "recorded, on the event loop", _recorded, 2_000, 1
    spans = Spans(Resource.create({}), InstrumentationScope("embedserve"))
    traces = [_recorded() for _ in range(_MESSAGE)]
    yield "recorded, on the thread that sends", partial(_message, spans, traces), 2, _MESSAGE


def _phases() -> None:
    for phase in (TOKENISE, QUEUE, AGGREGATE, ENCODE):
        enter(phase)


def _unrecorded(has_parent: bool) -> None:
    parent = parent_of(_PARENT) if has_parent else None
    context = context_of(parent, sampler("parentbased_always_off", 0))
    follow(None)
    _ = context.is_sampled, context.response, context.ids


def _recorded() -> Trace:
    context = context_of(None, sampler("parentbased_always_on", 1))
    name, attributes = of_request(_SCOPE, "/v1/embeddings", ("/v1/embeddings",))
    trace = Trace(context, None, "", name, time.perf_counter())
    trace.tell(attributes)
    follow(trace)
    trace.tell(of_model("all-MiniLM-L6-v2", is_embedding=True))
    _phases()
    trace.ran(_RUN)
    trace.tell(of_answer(200, "req_1", {}))
    trace.is_over = True
    follow(None)
    _ = context.response, context.ids
    return trace


def _message(spans: Spans, traces: list[Trace]) -> bytes:
    made = [span for trace in traces for span in spans.of(trace, time.perf_counter())]
    message: bytes = encode_spans(made).SerializePartialToString()
    return message


def _microseconds(part: Callable[[], object], calls: int, rounds: int) -> float:
    return 1e6 * min(timeit.repeat(part, number=calls, repeat=rounds, timer=time.thread_time)) / calls


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest.trace_cost", description=__doc__)
    command.add_rounds(parser, _ROUNDS, what="of each part")
    return parser


if __name__ == "__main__":
    sys.exit(main())
