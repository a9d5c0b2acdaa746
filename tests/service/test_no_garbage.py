"""Requests that end by an error are let go of with their answer, and not when garbage is collected: texts and all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Iterator

import pytest

from service.errors import DeadlineExceeded
from service.workers import Workers
from tests.service.test_batcher import Runtime, batcher, on_a_loop, row, started


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def soon() -> float:
    return asyncio.get_running_loop().time() + 0.01


def errors_left() -> int:
    return sum(isinstance(one, DeadlineExceeded) for one in gc.get_objects())


def test_whose_deadline_passes_in_the_queue() -> None:
    async def test(runtime: Runtime) -> None:
        before = errors_left()  # of tests before, which pytest holds
        mine = batcher(runtime)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            for _ in range(10):
                with contextlib.suppress(DeadlineExceeded):
                    await mine.submit([row(7)], deadline=soon())
            await asyncio.sleep(0)  # what the loop had planned for them
            assert errors_left() - before <= 1  # the last one
        await running

    on_a_loop(test)


def test_whose_deadline_passes_beside_the_event_loop() -> None:
    async def test(runtime: Runtime) -> None:
        before = errors_left()
        over = threading.Event()
        workers = Workers(1, 1_000, "test")
        running = asyncio.create_task(workers.run(lambda _: over.wait(30), 1))
        for _ in range(10):
            with contextlib.suppress(DeadlineExceeded):
                await workers.run(lambda _: None, 1, soon())
        await asyncio.sleep(0)
        assert errors_left() - before <= 1  # the last one
        over.set()
        await running
        workers.close()

    on_a_loop(test)
