"""Computation beside the event loop: few at a time, bounded, short before long, and given up when nobody waits for it.

What tokenising a text costs is known by its length alone, before anything else about it. So texts wait here as their
chunks do before the runtime: in the classes of `queueing`, under a limit, until their deadline or as long as their
client stays. The event loop owns every field; threads only run the work and look at its ticket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from service.admission import retry_after
from service.errors import Overloaded
from service.queueing import FairQueue
from service.waiting import Deadlines, check

Result = TypeVar("Result")

# Characters of the smallest class: what one thread does in some milliseconds.
_SMALL = 20_000
_CHARACTERS_PER_SECOND = 1_000_000.0  # that one thread tokenises, about; for Retry-After


class Abandoned(Exception):
    """Raised by `Ticket.check`, within the work, when its result is of no use any more."""


@dataclass(slots=True, eq=False)
class Ticket:
    """One piece of work, and whether somebody still waits for it."""

    work: Callable[[Ticket], Any]
    future: asyncio.Future[Any]
    is_wanted: bool = True
    started_at: float = 0.0  # by time.monotonic

    def check(self) -> None:
        """To be called every now and then by the work. Raises Abandoned."""
        if not self.is_wanted:
            raise Abandoned


class Workers:
    """A few threads, and the queue before them."""

    def __init__(self, threads: int, max_waiting: int, name: str) -> None:
        """`max_waiting` in characters."""
        self._threads = threads
        self._max_waiting = max_waiting
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"worker-{name}")
        self._queue: FairQueue[Ticket] = FairQueue(_SMALL)
        self._running: set[Ticket] = set()
        self._deadlines = Deadlines()

    async def run(self, work: Callable[[Ticket], Result], size: int, deadline: float | None = None) -> Result:
        """What `work` returns or raises, `size` being the characters it goes through.

        Raises Overloaded, DeadlineExceeded; cancelling the caller gives the work up at its next `check`.
        """
        loop = asyncio.get_running_loop()
        check(deadline, loop.time())
        self._admit(size)
        ticket = Ticket(work, loop.create_future())
        self._queue.add([(ticket, size)])
        self._dispatch()
        try:
            self._deadlines.add(ticket.future, deadline)
            result: Result = await ticket.future
            return result
        finally:
            self._deadlines.discard(ticket.future)
            ticket.is_wanted = False
            self._queue.discard([ticket])
            del ticket  # its error, if it has one, holds this frame, and with it the whole request

    def stalled_for(self) -> float:
        """Seconds that the oldest running work has been running; 0 when idle."""
        return max((time.monotonic() - one.started_at for one in self._running), default=0.0)

    def close(self) -> None:
        """Waits for what is under way."""
        self._pool.shutdown(wait=True)

    def _admit(self, size: int) -> None:
        if self._queue.is_full_for(size, self._max_waiting):
            seconds = retry_after(self._queue.tokens / (_CHARACTERS_PER_SECOND * self._threads))
            raise Overloaded("The server has more text to read than it accepts.", seconds)

    def _dispatch(self) -> None:
        while len(self._running) < self._threads and self._queue:
            for ticket in self._queue.take():
                self._start(ticket)

    def _start(self, ticket: Ticket) -> None:
        self._running.add(ticket)
        ticket.started_at = time.monotonic()
        done = asyncio.get_running_loop().run_in_executor(self._pool, ticket.work, ticket)
        done.add_done_callback(lambda future: self._finish(ticket, future))

    def _finish(self, ticket: Ticket, done: asyncio.Future[Any]) -> None:
        self._running.discard(ticket)
        if done.cancelled():  # the loop is being torn down
            return
        error = done.exception()  # looked at even where nobody waits, or asyncio would log it
        if not ticket.future.done():
            if error is None:
                ticket.future.set_result(done.result())
            else:
                ticket.future.set_exception(error)
        self._dispatch()
