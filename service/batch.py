"""What a batcher keeps: requests, the rows that they ask for, and the batches that those run in.

The event loop owns all of it; an executor's thread only looks a batch through just before it runs.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from numpy.typing import NDArray

from service.packing import Costs
from service.scheduling import Turn
from service.tracing import Run, Trace
from service.types import Matrix

Rows = Sequence[Sequence[int]]
Result = NDArray[Any]
Results = Matrix | Sequence[Result]
"""One array a row: the rows of a matrix (rows, dimensions), or a list of whatever shapes and types."""

# Seconds after which a batch that has waited for its executor's thread is looked through once more.
_LOOK_AGAIN_AFTER = 0.001
_NUMBERS = itertools.count(1)  # of batches that are noted


class Outcome(NamedTuple):
    """What a request gave and what it cost.

    `results[i]` belongs to row i; others may hold the same arrays, so they are read-only. `computed_tokens` counts each
    row as long as the longest row of the batch that gave its result: padding included, batches that failed left out. A
    row that several requests asked for is on the account of the first of those that still wait when it is done, once;
    one from the cache is on nobody's.
    """

    results: list[Result]
    computed_tokens: int


@dataclass(slots=True, eq=False)
class Job:
    """One request: the result of each of its rows, as far as they are known."""

    future: asyncio.Future[Outcome]
    results: list[Result | None]
    missing: int = 0
    deadline: float = math.inf  # in the event loop's time
    computed_tokens: int = 0
    trace: Trace | None = None  # where it is recorded

    def deliver(self, number: int, result: Result) -> None:
        """For the row of that number."""
        self.results[number] = result
        self.missing -= 1

    @property
    def outcome(self) -> Outcome:
        """Once nothing is missing."""
        return Outcome([one for one in self.results if one is not None], self.computed_tokens)


@dataclass(slots=True, eq=False)
class Row:
    """Token ids that wait or run, and who asked for them: jobs, and which of its rows each means."""

    key: bytes
    ids: Sequence[int]
    queued_at: float
    askers: list[tuple[Job, int]] = field(default_factory=list)
    has_started: bool = False
    left_by: str = ""  # why the last of them went, where that was after it had started
    has_failed: bool = False  # with others, or once alone

    def is_wanted(self, now: float = -math.inf) -> bool:
        """By somebody whose deadline is not past, `now` being the event loop's time."""
        for job, _ in self.askers:  # noqa: SIM110 - in the path of every row, and `any` takes three times as long
            if job.deadline > now and not job.future.done():
                return True
        return False


def tokens_of(rows: Iterable[Row]) -> int:
    """Of all of them, without padding."""
    return sum(len(row.ids) for row in rows)


Lengths = Sequence[tuple[Row, int]]
"""Rows, each with its tokens."""


@dataclass(slots=True, eq=False)
class Batch:
    """Rows that run together."""

    turn: Turn[Row]
    rows: list[Row]  # of the turn, those that somebody waits for
    started_at: float
    is_lone: bool  # nothing ran or waited beside it when it started
    costs: Costs
    waited: float  # as Throughput.waited, when it started
    left_out: list[Row] = field(default_factory=list)
    ran_at: float = 0.0  # by time.perf_counter
    executor: str = ""  # its thread's name

    @property
    def tokens(self) -> int:
        """That it computes, padding counted."""
        return self.costs.of([len(row.ids) for row in self.rows])

    def look_again(self) -> None:
        """Leaves out what nobody waits for any more. On the executor's thread, just before it runs: it may have lain
        ready for as long as another batch took."""
        if time.monotonic() - self.started_at > _LOOK_AGAIN_AFTER:
            self.left_out = [row for row in self.rows if not row.is_wanted()]
            self.rows = [row for row in self.rows if row not in self.left_out] if self.left_out else self.rows

    def note(self, seconds: float, error: BaseException | None = None) -> None:
        """For all whose trace is recorded, while they still wait. Nothing where it has not come to run."""
        if not self.ran_at:
            return
        run = None
        for row in self.rows:
            for job, _ in row.askers:
                if job.trace is not None and not job.future.done():
                    job.trace.ran(run := run or self._run(seconds, error))

    def _run(self, seconds: float, error: BaseException | None) -> Run:
        kind = None if error is None else type(error).__name__
        ends = self.ran_at + seconds
        return Run(next(_NUMBERS), self.ran_at, ends, len(self.rows), self.tokens, self.executor, self.is_lone, kind)
