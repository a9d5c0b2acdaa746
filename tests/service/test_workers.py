"""Computation beside the event loop: order, limit, deadlines, and what becomes of work that nobody waits for."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from service.errors import DeadlineExceeded, InvalidInput, Overloaded
from service.workers import Abandoned, Ticket, Workers

SMALL, LARGE = 10_000, 1_000_000


def drive(scenario: Callable[[Workers], Coroutine[Any, Any, None]], *, max_waiting: int = 10**9) -> None:
    """One thread, so that there is an order."""

    async def go() -> None:
        workers = Workers(1, max_waiting, "test")
        await asyncio.wait_for(scenario(workers), 30)
        workers.close()

    asyncio.run(go())


class Gate:
    """Work that goes on when it is told to."""

    def __init__(self) -> None:
        self.begun, self.opened = threading.Event(), threading.Event()

    def work(self, ticket: Ticket) -> str:
        self.begun.set()
        assert self.opened.wait(20)
        ticket.check()
        return "done"

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, 20)


def test_results_and_errors_come_back() -> None:
    def fail(_: Ticket) -> None:
        raise InvalidInput("no")

    async def scenario(workers: Workers) -> None:
        assert await workers.run(lambda _: 7, SMALL) == 7
        with pytest.raises(InvalidInput, match="no"):
            await workers.run(fail, SMALL)
        assert await workers.run(lambda _: 8, LARGE) == 8

    drive(scenario)


def test_short_work_does_not_wait_for_all_of_the_long() -> None:
    async def scenario(workers: Workers) -> None:
        gate, order = Gate(), []
        first = asyncio.create_task(workers.run(gate.work, LARGE))
        await gate.has_begun()
        waiting = [asyncio.create_task(workers.run(lambda _: order.append("long"), LARGE)) for _ in range(5)]
        await asyncio.sleep(0)
        waiting.append(asyncio.create_task(workers.run(lambda _: order.append("short"), SMALL)))
        await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(first, *waiting)
        assert order.index("short") <= 1

    drive(scenario)


def test_more_than_may_wait_is_refused_and_short_work_is_not() -> None:
    async def scenario(workers: Workers) -> None:
        gate = Gate()
        tasks = [asyncio.create_task(workers.run(gate.work, LARGE))]
        await gate.has_begun()
        tasks.append(asyncio.create_task(workers.run(lambda _: "waited", LARGE)))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await workers.run(lambda _: "never", LARGE)
        assert refused.value.retry_after >= 1
        tasks.append(asyncio.create_task(workers.run(lambda _: "short", SMALL)))
        await asyncio.sleep(0)
        gate.opened.set()
        assert await asyncio.gather(*tasks) == ["done", "waited", "short"]

    drive(scenario, max_waiting=LARGE)


def test_work_that_nobody_waits_for_ends_at_its_next_check_or_never_begins() -> None:
    async def scenario(workers: Workers) -> None:
        gate, ended, begun = Gate(), threading.Event(), []

        def work(ticket: Ticket) -> None:
            try:
                gate.work(ticket)
            except Abandoned:
                ended.set()
                raise

        running = asyncio.create_task(workers.run(work, LARGE))
        await gate.has_begun()
        waiting = asyncio.create_task(workers.run(lambda _: begun.append(1), LARGE))
        await asyncio.sleep(0)
        for task in (running, waiting):
            task.cancel()
        await asyncio.gather(running, waiting, return_exceptions=True)
        gate.opened.set()
        assert await asyncio.to_thread(ended.wait, 20)
        assert await workers.run(lambda _: "next", LARGE) == "next"
        assert not begun

    drive(scenario)


def test_a_deadline_covers_waiting_and_working() -> None:
    async def scenario(workers: Workers) -> None:
        gate = Gate()
        soon = asyncio.get_running_loop().time() + 0.05
        running = asyncio.create_task(workers.run(gate.work, LARGE, soon))
        waiting = asyncio.create_task(workers.run(lambda _: "late", SMALL, soon))
        for task in (running, waiting):
            with pytest.raises(DeadlineExceeded):
                await task
        gate.opened.set()

    drive(scenario)
