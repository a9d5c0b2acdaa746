"""Threads woken through pipes: every result arrives once, on the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable
from functools import partial
from operator import truediv
from typing import Any

import pytest

from service.errors import InferenceError
from service.executors import Executors


async def result_of(executors: Executors, work: Callable[[], Any]) -> Any:
    future = asyncio.get_running_loop().create_future()

    def then(result: Any, error: BaseException | None) -> None:
        assert threading.current_thread() is threading.main_thread()
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    executors.start(work, then)
    return await future


def test_many_results_each_to_its_own_caller() -> None:
    async def main() -> list[int]:
        executors = Executors(4, "test")
        found = await asyncio.gather(*(result_of(executors, partial(pow, number, 2)) for number in range(2000)))
        executors.close()
        return found

    assert asyncio.run(main()) == [number * number for number in range(2000)]


def test_as_many_run_at_once_as_there_are_threads() -> None:
    barrier = threading.Barrier(3)

    async def main() -> list[int]:
        executors = Executors(3, "test")
        found = await asyncio.gather(*(result_of(executors, partial(barrier.wait, 30)) for _ in range(3)))
        executors.close()
        return found

    assert sorted(asyncio.run(main())) == [0, 1, 2]


def test_what_fails_fails_alone() -> None:
    async def main() -> list[Any]:
        executors = Executors(2, "test")
        found = await asyncio.gather(
            *(result_of(executors, partial(truediv, 1, one)) for one in (1, 0, 2)), return_exceptions=True
        )
        executors.close()
        return found

    one, error, half = asyncio.run(main())
    assert (one, half) == (1, 0.5)
    assert isinstance(error, ZeroDivisionError)


def test_a_caller_that_fails_takes_no_result_from_the_others() -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        executors, found, done = Executors(1, "test"), list[int](), asyncio.Event()

        def then(result: int, _: BaseException | None) -> None:
            found.append(result)
            if result == 8:
                done.set()
            if result % 2:
                raise ZeroDivisionError

        for number in range(9):
            executors.start(partial(int, number), then)
        async with asyncio.timeout(30):
            await done.wait()
        executors.close()
        return found

    assert asyncio.run(main()) == list(range(9))


def test_closing_waits_for_what_is_under_way() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait(30)
        ended.set()

    async def main() -> None:
        executors = Executors(1, "test")
        executors.start(work, lambda result, error: None)
        threading.Timer(0.05, release.set).start()
        executors.close()
        assert ended.is_set()

    asyncio.run(main())


@pytest.mark.parametrize("threads", [1, 3])
def test_no_thread_is_left_behind(threads: int) -> None:
    before = threading.active_count()

    async def main() -> None:
        executors = Executors(threads, "test")
        assert await result_of(executors, lambda: 7) == 7
        assert threading.active_count() == before + threads
        executors.close()

    asyncio.run(main())
    assert threading.active_count() == before


def test_closing_what_never_ran_is_nothing() -> None:
    Executors(2, "test").close()


def test_an_exception_thrown_into_a_thread_ends_neither_the_thread_nor_a_result() -> None:
    """Wherever it hits: while the thread waits, while it works, and between the two."""

    def throw() -> None:
        for thread in threading.enumerate():
            if thread.name.startswith("thrown"):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
                )

    async def main() -> list[Any]:
        executors = Executors(2, "thrown")
        assert await result_of(executors, lambda: 7) == 7
        found = []
        for _ in range(50):
            throw()
            waiting = [result_of(executors, partial(time.sleep, 0.001)) for _ in range(4)]
            found += await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 30)
        assert await result_of(executors, lambda: 8) == 8
        executors.close()
        return found

    found = asyncio.run(main())
    assert len(found) == 200
    assert all(one is None or isinstance(one, SystemExit | InferenceError) for one in found)
    assert None in found
