"""What a traced request did, and when: notes that `telemetry` makes spans of when it has been answered. Pure.

Times are those of time.perf_counter. A task variable carries the notes from the door to where things happen, so that
what lies between need not know of them. Where nothing is traced, that is a look at a variable, three or four times a
request. A request whose trace is not recorded has ids alone, for its log line, and nobody notes anything.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

MOST_RUNS = 64  # of one request that are noted; of those beyond them only how many rows they had
MORE_ROWS = "embedserve.rows_of_more_runs"  # of the server span
TOKENISE, QUEUE, AGGREGATE, ENCODE = "tokenise", "queue", "aggregate", "encode"
_SAMPLED = 1


class Phase(NamedTuple):
    """What a request was at, from then until the next phase or its end."""

    name: str
    begins: float


class Run(NamedTuple):
    """One batch on its executor: `tokens` with padding, `number` its own in this process, and what it failed with."""

    number: int
    begins: float
    ends: float
    rows: int
    tokens: int
    executor: str
    is_lone: bool
    error: str | None = None


class Context(NamedTuple):
    """Ids of a server span, in hexadecimal, and W3C Trace Context's flags."""

    trace_id: str
    span_id: str
    flags: int

    @property
    def is_sampled(self) -> bool:
        """Whether it is recorded."""
        return bool(self.flags & _SAMPLED)

    @property
    def ids(self) -> dict[str, str]:
        """For log lines, by OpenTelemetry's names."""
        return {"trace_id": self.trace_id, "span_id": self.span_id}

    @property
    def response(self) -> str:
        """The value of `traceresponse`, W3C Trace Context's header of replies."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}"


class Trace:
    """The server span of one request that is recorded, and notes of what will be its children."""

    __slots__ = (
        *("attributes", "begins", "begins_at", "context", "is_over", "name", "parent", "phases"),
        *("runs", "state"),
    )

    def __init__(self, context: Context, parent: str | None, state: str, name: str, begins: float) -> None:
        """`parent` is the id of the caller's span, `state` what vendors on the way have said."""
        self.context = context
        self.parent = parent
        self.state = state
        self.name = name
        self.begins = begins
        self.begins_at = time.time_ns() - int(1e9 * (time.perf_counter() - begins))  # by the clock on the wall
        self.attributes: dict[str, Any] = {}
        self.phases: list[Phase] = []
        self.runs: list[tuple[Run, int]] = []  # and how many of their rows are this request's
        self.is_over = False

    def enter(self, phase: str) -> None:
        """From now on it is at that."""
        self.phases.append(Phase(phase, time.perf_counter()))

    def ran(self, run: Run) -> None:
        """A row of its was in that batch; the rows of a batch are told of one after another."""
        if self.runs and self.runs[-1][0] is run:
            self.runs[-1] = run, self.runs[-1][1] + 1
        elif len(self.runs) < MOST_RUNS:
            self.runs.append((run, 1))
        else:
            self.attributes[MORE_ROWS] = self.attributes.get(MORE_ROWS, 0) + 1

    def tell(self, attributes: Mapping[str, Any]) -> None:
        """Of the server span."""
        self.attributes.update(attributes)


_CURRENT: ContextVar[Trace | None] = ContextVar("trace", default=None)


def follow(trace: Trace | None) -> None:
    """From here on this task's request is that one, or one that is not recorded. Tasks of pipelined requests begin with
    the variables of the one before, so that has to be said as well."""
    if trace is not _CURRENT.get():
        _CURRENT.set(trace)


def current() -> Trace | None:
    """That of this task's request, if it is recorded and has not been answered: what goes on in the background may
    have begun in a request's task."""
    trace = _CURRENT.get()
    return None if trace is None or trace.is_over else trace


def enter(phase: str) -> None:
    """This task's request is at that from now on."""
    trace = _CURRENT.get()
    if trace is not None and not trace.is_over:
        trace.enter(phase)
