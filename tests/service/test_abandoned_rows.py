"""What nobody waits for any more: it does not reach the runtime, and what was there already is counted."""

from __future__ import annotations

import asyncio
import time

import pytest

from service import metrics
from service.errors import DeadlineExceeded
from tests.service.test_batcher import Runtime, batcher, firsts, on_a_loop, row, started


def counted(name: str, reason: str) -> float:
    labels = {"model": "test", "reason": reason}
    return metrics.REGISTRY.get_sample_value(f"embedserve_{name}", labels) or 0.0


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_a_deadline_that_is_past_queues_nothing() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        with pytest.raises(DeadlineExceeded):
            await mine.submit([row(1)], asyncio.get_running_loop().time())
        await mine.close()

    assert not on_a_loop(test).batches


def test_a_deadline_that_the_event_loop_was_too_busy_to_notice_is_past_all_the_same() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        before = counted("dropped_total", "deadline_exceeded")
        with runtime.held():
            first = asyncio.create_task(mine.submit([row(1, 64)]))
            await started(runtime)
            late = asyncio.create_task(mine.submit([row(2, 64)], asyncio.get_running_loop().time() + 0.01))
            await asyncio.sleep(0)
            runtime.free.set()
            time.sleep(0.05)  # noqa: ASYNC251 - the loop is the one that is held up
        await first
        with pytest.raises(DeadlineExceeded):
            await late
        assert counted("dropped_total", "deadline_exceeded") == before + 1
        await mine.close()

    assert firsts(on_a_loop(test)) == [1]


def test_a_batch_that_lay_ready_for_clients_who_left_does_not_run() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        before = counted("dropped_total", "client_gone")
        with runtime.held():
            first = asyncio.create_task(mine.submit([row(1, 8)]))
            await started(runtime)
            ready = asyncio.create_task(mine.submit([row(2, 8)]))
            waiting = asyncio.create_task(mine.submit([row(3, 8)]))
            await asyncio.sleep(0.01)
            await cancelled(ready)
        await asyncio.gather(first, waiting)
        assert counted("dropped_total", "client_gone") == before + 1
        await mine.close()

    assert firsts(on_a_loop(test)) == [1, 3]


def test_who_asks_for_what_was_just_left_out_of_a_batch_gets_it_from_another() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            first = asyncio.create_task(mine.submit([row(1, 8)]))
            await started(runtime)
            ready = [asyncio.create_task(mine.submit([row(i, 4)])) for i in (2, 3)]
            await asyncio.sleep(0.01)
            await cancelled(ready.pop())
            runtime.free.set()
            runtime.free.clear()
            await started(runtime, 2)
            late = asyncio.create_task(mine.submit([row(3, 4)]))
            await asyncio.sleep(0.01)
        assert [one.results[0].tolist() for one in await asyncio.gather(first, *ready, late)] == [
            [1, 8],
            [2, 4],
            [3, 4],
        ]
        await mine.close()

    assert firsts(on_a_loop(test)) == [1, 2, 3]


@pytest.mark.parametrize("reason", ["client_gone", "deadline_exceeded"])
def test_what_ran_for_nobody_is_counted(reason: str) -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        before = counted("unclaimed_rows_total", reason)
        with runtime.held():
            deadline = asyncio.get_running_loop().time() + 0.05 if reason == "deadline_exceeded" else None
            one = asyncio.create_task(mine.submit([row(1, 8), row(2, 8)], deadline))
            await started(runtime)
            if deadline is None:
                await cancelled(one)
            else:
                with pytest.raises(DeadlineExceeded):  # at once, while the batch is running
                    await one
            assert counted("unclaimed_rows_total", reason) == before
        await mine.close()
        assert counted("unclaimed_rows_total", reason) == before + 2

    on_a_loop(test)
