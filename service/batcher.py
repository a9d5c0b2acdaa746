"""Requests in, batches out: the queue's limit, deadlines, cancellation and failures. `scheduling` says who runs when.

Batchers of several models, or of several outputs of one, share a `Device`, each with a lane of its own there. The event
loop owns every field here; executor threads only run the callable they are given. No timer ever delays an idle runtime.

One request is one Job, and what it asks for are Rows of token ids. Rows that are alike are one Row, which is computed
once for all jobs that ask for it while it waits or runs. A job ends once: with all its results, with its own error,
or abandoned (deadline, client gone). Then the rows that nobody else asks for leave the queue unrun.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from service.admission import Admission, Throughput
from service.batch import Batch, Job, Lengths, Outcome, Result, Results, Row, Rows, tokens_of
from service.batch_metrics import BatchMetrics
from service.cache import Cache
from service.device import Device
from service.errors import BadVectors, ClientGone, DeadlineExceeded, InferenceError, Overloaded, Unavailable
from service.packing import USUAL, Costs
from service.scheduling import Share, Turn
from service.tracing import QUEUE, current
from service.types import TwoPartRow
from service.vitals import Vitals
from service.waiting import Deadlines, check

_PARTED = array("i", [-1]).tobytes()


class Batcher:
    """Dynamic batching in front of `run`, a blocking function of rows of token ids → one array a row."""

    def __init__(
        self,
        run: Callable[[Rows], Results],
        run_lone: Callable[[Rows], Results] | None = None,
        /,
        *,
        model: str,
        device: Device[Any],
        share: Share | None = None,
        max_batch_tokens: int,
        max_queue_tokens: int,
        max_queue_seconds: float = math.inf,
        cache: Cache | None = None,
        cache_scope: bytes = b"",
        costs: Costs = USUAL,
        probe: Sequence[int] = (),
        first_rate: float | None = None,
    ) -> None:
        """`cache_scope` says, for a cache that others use too, what `run` makes of a row: model and output.

        `run_lone` does the same for a batch beside which nothing runs or waits, and may use the whole machine.
        Batchers of one model have the same `share` of the device; None is one that no other has. `probe` is a row that
        works if anything does; without one nobody asks whether it does. `first_rate` is in tokens
        a second of the whole device, and counts until something has waited.
        """
        self._run = run
        self._run_lone = run_lone or run
        self._cache = cache
        self._cache_scope = cache_scope
        self._device: Device[Row] = device
        self._share = share or Share()
        self._lane = device.join(self._begin, self._share, max_batch_tokens, costs)
        self._queue = self._lane.queue
        throughput = Throughput(lambda: device.scheduler.fraction(self._share), first_rate)
        self._admission = Admission(self._queue, max_queue_tokens, max_queue_seconds, throughput)
        self._rows: dict[bytes, Row] = {}  # all that wait or run
        self._running: set[Batch] = set()
        self._closed = False
        self._deadlines = Deadlines()
        self._idle = asyncio.Event()  # of use once it is closed
        self._vitals = Vitals(lambda: self.submit([probe], is_probe=True)) if probe else None
        self._costs = costs
        self._metrics = BatchMetrics(model)
        self._metrics.watch(lambda: self._queue.tokens, lambda: len(self._queue), lambda: self._lane.running)

    # --- what callers see -------------------------------------------------------------------------------------

    async def submit(self, rows: Rows, deadline: float | None = None, *, is_probe: bool = False) -> Outcome:
        """Token ids, one row a chunk → one array a row, in order.

        `deadline` is in the event loop's time. Cancelling the caller drops what has not run yet, unless others ask for
        it too. A probe is to run, and so is not looked for in the cache. Raises Overloaded (nothing was queued),
        DeadlineExceeded, InferenceError, and Unavailable once closed.
        """
        if self._closed:
            raise Unavailable("The server is shutting down.", retry_after=1.0)
        loop = asyncio.get_running_loop()
        check(deadline, now := loop.time())
        future: asyncio.Future[Outcome] = loop.create_future()
        job = Job(future, [None] * len(rows), len(rows), math.inf if deadline is None else deadline)
        # Arrays make keys and the runtime's input faster than lists do.
        packed = [ids if isinstance(ids, TwoPartRow) else array("i", ids) for ids in rows]
        keys = [self._cache_scope + _content(ids) for ids in packed]
        if self._cache is not None and not is_probe:
            self._recall(self._cache, job, keys)
        if not job.missing:
            return job.outcome
        if (trace := current()) is not None:
            job.trace = trace
            trace.enter(QUEUE)
        asked = self._ask(job, packed, keys, now)
        try:
            self._deadlines.add(job.future, deadline)
            return await job.future
        except (DeadlineExceeded, InferenceError) as error:
            self._abandon(job, asked, error.reason)
            raise
        except asyncio.CancelledError:
            self._abandon(job, asked, ClientGone.reason)
            raise
        finally:
            self._deadlines.discard(job.future)
            del job, future  # which hold an error that holds this frame, and with it the whole request

    @property
    def is_overloaded(self) -> bool:
        """Whether requests have just been refused, and nothing is kept that could answer others all the same."""
        admission = self._admission  # nearly always it has refused nothing, and nobody need know the time
        return admission.has_refused and self._cache is None and admission.is_strict(asyncio.get_running_loop().time())

    def turns_away(self, tokens: int) -> bool:
        """Whether a request of so many tokens at most need not be looked at, where others have just been refused."""
        return self._admission.turns_away(tokens, asyncio.get_running_loop().time())

    def refusal(self, tokens: int) -> Overloaded:
        """For one that is turned away."""
        return self._admission.refusal(tokens, asyncio.get_running_loop().time())

    def stalled_for(self) -> float:
        """Seconds that the oldest running batch has been running; 0 when idle."""
        return max((time.monotonic() - batch.started_at for batch in self._running), default=0.0)

    def failing_for(self) -> float | None:
        """Seconds since the runtime began to fail on everything; None where it does not."""
        return self._vitals.failing_for() if self._vitals else None

    async def close(self) -> None:
        """Waits for what is queued or running, leaves the device, and lets go of what it ran."""
        self._closed = True
        if self._vitals:
            self._vitals.close()
        self._settle()
        await self._idle.wait()
        if self._run is not _closed:
            self._device.leave(self._lane)
        self._run = self._run_lone = _closed

    # --- the queue --------------------------------------------------------------------------------------------

    def _recall(self, cache: Cache, job: Job, keys: Sequence[bytes]) -> None:
        """Takes what it can from the cache."""
        for number, key in enumerate(keys):
            if (found := cache.get(key)) is not None:
                job.deliver(number, found)
        self._metrics.recalled(len(keys) - job.missing, job.missing)

    def _ask(self, job: Job, rows: Rows, keys: Sequence[bytes], now: float) -> Iterable[Row]:
        """For what is missing: the rows that wait or run already, and new ones; `now` is the event loop's time. Raises
        Overloaded."""
        queued_at = time.monotonic()
        asked: dict[bytes, Row] = {}
        askers: list[tuple[Row, int]] = []
        new: list[tuple[Row, int]] = []
        for number, key in enumerate(keys):
            if job.results[number] is not None:
                continue
            row = asked.get(key) or self._rows.get(key)
            if row is None:
                row = Row(key, rows[number], queued_at)
                new.append((row, len(row.ids)))
            asked[key] = row
            askers.append((row, number))
        waiting = [(row, len(row.ids)) for row in asked.values() if row.askers and not row.has_started]
        self._admit(new, waiting, job.deadline - now, now)
        for row, number in askers:
            row.askers.append((job, number))
        for row, _ in new:
            self._rows[row.key] = row
        if len(askers) > len(new):
            self._metrics.deduplicated(len(askers) - len(new))
        self._lane.add(new, waiting)
        if new:  # what runs already does not wait
            self._admission.throughput.waits(now)
        self._device.dispatch_soon()
        return asked.values()

    def _admit(self, new: Lengths, waiting: Lengths, left: float, now: float) -> None:
        """The rows of a request, and those of them that wait already for others; `left` are its seconds. Raises
        Overloaded."""
        if new:
            tokens = sum([length for _, length in waiting]) if waiting else 0
            total = tokens + sum([length for _, length in new])
            self._admission.check(total, tokens, left, now)

    def _abandon(self, job: Job, rows: Iterable[Row], reason: str) -> None:
        """Whatever nobody but this job asked for leaves the queue, if it has not started."""
        for row in rows:
            row.askers = [one for one in row.askers if one[0] is not job]
        unrun = []
        for row in rows:
            if row.has_started:
                row.left_by = reason
            elif not row.askers:
                unrun.append(row)
        self._queue.discard(unrun)
        for row in unrun:
            self._forget(row)
        if unrun:
            self._metrics.dropped(reason, len(unrun))
        self._settle()

    def _forget(self, row: Row) -> None:
        """Who asks for the like of it from now on gets a new one."""
        if self._rows.get(row.key) is row:
            del self._rows[row.key]

    # --- forming and running batches --------------------------------------------------------------------------

    def _begin(self, turn: Turn[Row]) -> None:
        now = asyncio.get_running_loop().time()
        if living := self._living(turn.rows, now):
            self._start(turn, living, now)
        else:
            self._device.scheduler.ended(turn)
        self._settle()

    def _start(self, turn: Turn[Row], rows: list[Row], now: float) -> None:
        waited = self._admission.throughput.waited(now)
        batch = Batch(turn, rows, time.monotonic(), self._device.scheduler.is_alone, self._costs, waited)
        self._running.add(batch)
        self._metrics.started(batch)
        for row in rows:
            row.has_started = True
        run = self._run_lone if batch.is_lone else self._run
        self._device.run(turn, partial(_timed, run, batch), partial(self._finish, batch))

    def _finish(self, batch: Batch, ran: tuple[Results, float], error: BaseException | None) -> None:
        self._running.discard(batch)
        if batch.left_out:
            self._leave_out(batch)
        if error is not None:
            self._device.scheduler.ended(batch.turn)
            batch.note(time.perf_counter() - batch.ran_at, error)
            self._split_or_fail(batch, error)
            self._device.dispatch_soon()  # after the failed requests have taken the rest of their rows away
        elif not batch.rows:
            self._device.scheduler.ended(batch.turn)
            self._device.dispatch()
        else:
            results, seconds = ran
            # A lone batch may have had the other executors' cores.
            taken = seconds * self._device.executors if batch.is_lone else seconds
            self._device.scheduler.ended(batch.turn, taken)
            self._metrics.finished(batch, seconds)
            batch.note(seconds)
            longest = max(len(row.ids) for row in batch.rows)
            for row, result in zip(batch.rows, results, strict=True):
                self._deliver(row, result, self._costs.tokens(1, longest, len(row.ids)))
            now = asyncio.get_running_loop().time()
            self._admission.throughput.computed(tokens_of(batch.rows), seconds, batch.waited, now)
            self._device.dispatch()
        self._settle()

    def _leave_out(self, batch: Batch) -> None:
        """What did not run with it: dropped, but for rows that somebody has asked for since."""
        if again := self._living(batch.left_out):
            self._device.scheduler.again(batch.turn, again)
        for row in batch.left_out:
            if row not in again:
                self._metrics.dropped(row.left_by or DeadlineExceeded.reason, 1)

    def _deliver(self, row: Row, result: Result, cost: int) -> None:
        """To all who asked for it and still wait; the first of them is charged."""
        self._forget(row)
        is_claimed = False
        if self._cache is not None:
            self._metrics.evicted(self._cache.put(row.key, result))
        for job, number in row.askers:
            if job.future.done():  # abandoned, or failed by another of its rows
                continue
            is_claimed = True
            job.deliver(number, result)
            job.computed_tokens += cost
            cost = 0
            if not job.missing:
                job.future.set_result(job.outcome)
        if not is_claimed:
            self._metrics.unclaimed(row.left_by or DeadlineExceeded.reason)

    def _split_or_fail(self, batch: Batch, error: BaseException) -> None:
        """Fails the guilty rows of a failed batch, so that their neighbours get their results."""
        guilty = _guilty(batch.rows, error)
        for row in guilty:
            self._fail(row, error)
        if guilty and self._vitals:
            self._vitals.suspect()
        self._metrics.failed()
        for rows in _parts(self._living([row for row in batch.rows if row not in guilty]), is_tried=bool(guilty)):
            for row in rows:
                row.has_failed = True
            self._device.scheduler.again(batch.turn, rows)

    def _fail(self, row: Row, error: BaseException) -> None:
        self._forget(row)
        for job, _ in row.askers:
            if not job.future.done():
                job.future.set_exception(_failure(error))

    def _living(self, rows: Iterable[Row], now: float = -math.inf) -> list[Row]:
        """Those that somebody still waits for, as is_wanted says; the others are forgotten."""
        living = []
        for row in rows:
            if row.is_wanted(now):
                living.append(row)
            else:
                self._forget(row)
        return living

    def _settle(self) -> None:
        if not self._queue:
            self._admission.throughput.rests(asyncio.get_running_loop().time())
        if self._closed and self._lane.is_idle:
            self._idle.set()


def _closed(rows: Rows) -> Results:
    """In place of what a batcher ran, which is not kept in memory for it."""
    raise InferenceError("the batcher is closed")


def _content(row: array[int]) -> bytes:
    """The same for rows that are alike, and for no others: no row of one part begins with an id below 0."""
    return _PARTED + row.split.to_bytes(4, "little") + row.tobytes() if isinstance(row, TwoPartRow) else row.tobytes()


def _guilty(rows: Sequence[Row], error: BaseException) -> list[Row]:
    """Those that a failed batch failed for, as far as it is known: those that the error names, or one that has failed
    with others before and now alone, or twice alone."""
    if isinstance(error, BadVectors):
        return [rows[place] for place in error.rows]
    return [row for row in rows if row.has_failed] if len(rows) == 1 else []


def _parts(rows: list[Row], *, is_tried: bool) -> Iterable[list[Row]]:
    """What is run next of a failed batch: its rows, rid of the guilty ones; or each half, if those are not known."""
    middle = 0 if is_tried else len(rows) // 2
    return filter(None, (rows[:middle], rows[middle:]))


def _failure(error: BaseException) -> InferenceError:
    """One for each who is told."""
    if isinstance(error, InferenceError):
        failure = type(error)(error.detail)
    else:
        failure = InferenceError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _timed(run: Callable[[Rows], Results], batch: Batch) -> tuple[Results, float]:
    """What `run` gives, and its seconds. On an executor's thread."""
    batch.look_again()
    if not batch.rows:
        return [], 0.0
    batch.ran_at, batch.executor = time.perf_counter(), threading.current_thread().name
    results = run([row.ids for row in batch.rows])
    for one in (results,) if isinstance(results, np.ndarray) else results:
        one.flags.writeable = False  # and so are its rows
    return results, time.perf_counter() - batch.ran_at
