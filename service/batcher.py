"""Requests in, batches out: the queue's limit, deadlines, cancellation and failures. `scheduling` says who runs when.

The event loop owns every field here; executor threads only run the callable they are given. No timer ever delays an
idle runtime.

One request is one Job. A job ends once: with all its vectors, with its own error, or abandoned (deadline, client
gone); then whatever it still has waiting leaves the queue unrun.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service import metrics
from service.errors import ClientGone, DeadlineExceeded, InferenceError, Overloaded, Unavailable
from service.packing import padded_tokens
from service.scheduling import Scheduler, Turn
from service.types import Matrix
from service.waiting import expiring, retry_after

Rows = Sequence[Sequence[int]]
Results = Matrix | Sequence[NDArray[np.float32]]
"""One array a row: the rows of a matrix (rows, dimensions), or a list of whatever shapes."""

# What a queue promises before it has seen a batch: tokens per second of a small encoder on one core.
_FIRST_GUESS_OF_RATE = 5_000.0
_RATE_MEMORY = 0.9  # weight of the past in the moving average of throughput


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request gave and what it cost.

    `results[i]` belongs to row i. `computed_tokens` counts each row as long as the longest row of the batch that
    gave its result: padding included, batches that failed left out.
    """

    results: list[NDArray[np.float32]]
    computed_tokens: int


@dataclass(slots=True, eq=False)
class _Job:
    """One request of so many `rows`, and what came of those that have run."""

    future: asyncio.Future[Outcome]
    rows: int
    results: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    computed_tokens: int = 0


@dataclass(slots=True, eq=False)
class _Entry:
    """One row of a job, waiting or running."""

    job: _Job
    number: int
    ids: Sequence[int]
    queued_at: float


@dataclass(slots=True, eq=False)
class _Batch:
    turn: Turn[_Entry]
    entries: list[_Entry]  # of the turn, those that somebody waits for
    started_at: float
    tokens: int = field(init=False)  # padding counted

    def __post_init__(self) -> None:
        self.tokens = padded_tokens([len(entry.ids) for entry in self.entries])


class Batcher:
    """Dynamic batching in front of `run`, a blocking function of rows of token ids → one array a row."""

    def __init__(
        self,
        run: Callable[[Rows], Results],
        *,
        model: str,
        executors: int,
        max_batch_tokens: int,
        max_queue_tokens: int,
    ) -> None:
        self._run = run
        self._executors = executors
        self._max_queue_tokens = max_queue_tokens
        self._pool = ThreadPoolExecutor(executors, thread_name_prefix=f"executor-{model}")
        self._express = ThreadPoolExecutor(1, thread_name_prefix=f"express-{model}")
        self._scheduler: Scheduler[_Entry] = Scheduler(executors, max_batch_tokens)
        self._queue = self._scheduler.queue
        self._running: set[_Batch] = set()
        self._dispatch_is_due = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._rate = _FIRST_GUESS_OF_RATE
        self._metrics = _BatcherMetrics(model)

    # --- what callers see -------------------------------------------------------------------------------------

    async def submit(self, rows: Rows, deadline: float | None = None) -> Outcome:
        """Token ids, one row a chunk → one array a row, in order.

        `deadline` is in the event loop's time. Cancelling the caller drops what has not run yet. Raises Overloaded
        (nothing was queued), DeadlineExceeded, InferenceError, and Unavailable once closed.
        """
        self._admit(sum(map(len, rows)))
        job = _Job(asyncio.get_running_loop().create_future(), len(rows))
        entries = self._enqueue(job, rows)
        try:
            with expiring(job.future, deadline):
                return await job.future
        except (DeadlineExceeded, InferenceError) as error:
            self._abandon(entries, error.reason)
            raise
        except asyncio.CancelledError:
            self._abandon(entries, ClientGone.reason)
            raise

    def stalled_for(self) -> float:
        """Seconds that the oldest running batch has been running; 0 when idle."""
        return max((time.monotonic() - batch.started_at for batch in self._running), default=0.0)

    async def close(self) -> None:
        """Waits for what is queued or running, then ends the threads."""
        self._closed = True
        await self._idle.wait()
        self._pool.shutdown(wait=True)
        self._express.shutdown(wait=True)

    # --- the queue --------------------------------------------------------------------------------------------

    def _admit(self, tokens: int) -> None:
        if self._closed:
            raise Unavailable("The server is shutting down.", retry_after=1.0)
        if self._queue.is_full_for(tokens, self._max_queue_tokens):
            seconds = retry_after(self._queue.tokens / self._rate)
            raise Overloaded("The server has more work queued than it accepts.", seconds)

    def _enqueue(self, job: _Job, rows: Rows) -> list[_Entry]:
        now = time.monotonic()
        entries = [_Entry(job, number, ids, now) for number, ids in enumerate(rows)]
        self._queue.add([(entry, len(entry.ids)) for entry in entries])
        self._idle.clear()
        self._dispatch_soon()
        return entries

    def _abandon(self, entries: Sequence[_Entry], reason: str) -> None:
        """Whatever of a job still waits leaves the queue unrun."""
        if dropped := self._queue.discard(entries):
            self._metrics.dropped(reason, dropped)
        self._measure_queue()

    # --- forming and running batches --------------------------------------------------------------------------

    def _dispatch_soon(self) -> None:
        """Once per turn of the loop, so that requests arriving together are packed together."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._dispatch_is_due = False
        while turn := self._scheduler.start():
            if living := _living(turn.rows):
                self._start(turn, living)
            else:
                self._scheduler.ended(turn)
        self._measure_queue()

    def _start(self, turn: Turn[_Entry], entries: list[_Entry]) -> None:
        batch = _Batch(turn, entries, time.monotonic())
        self._running.add(batch)
        loop = asyncio.get_running_loop()
        pool = self._express if turn.is_express else self._pool
        done = loop.run_in_executor(pool, self._timed_run, [entry.ids for entry in entries])
        done.add_done_callback(lambda future: self._finish(batch, future))
        self._metrics.started(batch)

    def _timed_run(self, rows: Rows) -> tuple[Results, float]:
        """On an executor's thread."""
        started = time.perf_counter()
        vectors = self._run(rows)
        return vectors, time.perf_counter() - started

    def _finish(self, batch: _Batch, future: asyncio.Future[tuple[Results, float]]) -> None:
        self._running.discard(batch)
        self._scheduler.ended(batch.turn)
        if future.cancelled():  # the loop is being torn down
            return
        error = future.exception()
        if error is not None:
            self._split_or_fail(batch, error)
            self._dispatch_soon()  # after the failed requests have taken the rest of their rows away
        else:
            vectors, seconds = future.result()
            self._rate = _RATE_MEMORY * self._rate + (1 - _RATE_MEMORY) * self._observed_rate(batch, seconds)
            self._metrics.finished(batch, seconds)
            longest = batch.tokens // len(batch.entries)
            for entry, vector in zip(batch.entries, vectors, strict=True):
                _deliver(entry, vector, longest)
            self._dispatch()

    def _observed_rate(self, batch: _Batch, seconds: float) -> float:
        """Tokens per second of the whole pool, were every executor as fast as this one just was."""
        return sum(len(entry.ids) for entry in batch.entries) / max(seconds, 1e-6) * self._executors

    def _split_or_fail(self, batch: _Batch, error: BaseException) -> None:
        """Halves a failed batch until the guilty row is alone, so that its neighbours get their vectors."""
        living = _living(batch.entries)
        if len(batch.entries) > 1:
            middle = len(living) // 2
            for half in (living[:middle], living[middle:]):
                self._scheduler.again(batch.turn, half)
            return
        for entry in living:
            failure = error if isinstance(error, InferenceError) else InferenceError(f"{type(error).__name__}: {error}")
            failure.__cause__ = None if failure is error else error
            entry.job.future.set_exception(failure)

    def _measure_queue(self) -> None:
        if self._scheduler.is_idle:
            self._idle.set()
        self._metrics.queue(self._queue.tokens, len(self._queue), self._scheduler.running)


def _living(entries: Sequence[_Entry]) -> list[_Entry]:
    """Those whose request still waits for them."""
    return [entry for entry in entries if not entry.job.future.done()]


def _deliver(entry: _Entry, result: NDArray[np.float32], computed_tokens: int) -> None:
    job = entry.job
    if job.future.done():  # abandoned, or failed by another of its rows
        return
    job.results[entry.number] = result
    job.computed_tokens += computed_tokens
    if len(job.results) == job.rows:
        job.future.set_result(Outcome([job.results[number] for number in range(job.rows)], job.computed_tokens))


class _BatcherMetrics:
    """This model's label children, looked up once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._wait = metrics.QUEUE_SECONDS.labels(model)
        self._inference = metrics.INFERENCE_SECONDS.labels(model)
        self._tokens = metrics.BATCH_TOKENS.labels(model)
        self._rows = metrics.BATCH_ROWS.labels(model)
        self._computed = metrics.COMPUTED_TOKENS.labels(model)
        self._padding = metrics.PADDING_TOKENS.labels(model)
        self._ratio = metrics.PADDING_RATIO.labels(model)
        self._queue_tokens = metrics.QUEUE_TOKENS.labels(model)
        self._queue_entries = metrics.QUEUE_ENTRIES.labels(model)
        self._running = metrics.RUNNING_BATCHES.labels(model)

    def started(self, batch: _Batch) -> None:
        for entry in batch.entries:
            self._wait.observe(batch.started_at - entry.queued_at)

    def finished(self, batch: _Batch, seconds: float) -> None:
        padding = batch.tokens - sum(len(entry.ids) for entry in batch.entries)
        self._inference.observe(seconds)
        self._tokens.observe(batch.tokens)
        self._rows.observe(len(batch.entries))
        self._computed.inc(batch.tokens)
        self._padding.inc(padding)
        self._ratio.observe(padding / batch.tokens)

    def dropped(self, reason: str, entries: int) -> None:
        metrics.DROPPED.labels(self._model, reason).inc(entries)

    def queue(self, tokens: int, entries: int, running: int) -> None:
        self._queue_tokens.set(tokens)
        self._queue_entries.set(entries)
        self._running.set(running)
