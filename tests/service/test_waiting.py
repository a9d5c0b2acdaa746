"""Deadlines: one timer for all who wait."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
import uvloop

from service.errors import DeadlineExceeded
from service.waiting import Deadlines


def test_each_future_fails_at_its_own_time_whatever_the_order() -> None:
    async def main() -> list[str]:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        failed: list[str] = []

        def note(name: str, _: object) -> None:
            failed.append(name)

        futures = {name: loop.create_future() for name in ("late", "early", "never", "middle")}
        seconds = {"late": 0.09, "early": 0.01, "never": None, "middle": 0.05}
        for name, future in futures.items():
            future.add_done_callback(partial(note, name))
            after = seconds[name]
            deadlines.add(future, None if after is None else loop.time() + after)
        with pytest.raises(DeadlineExceeded):
            await futures["late"]
        await asyncio.sleep(0)
        assert not futures["never"].done()
        for name in ("early", "middle"):
            assert isinstance(futures[name].exception(), DeadlineExceeded)
        return failed

    assert asyncio.run(main()) == ["early", "middle", "late"]


def test_what_is_done_or_discarded_does_not_fail() -> None:
    async def main() -> None:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        done, left, last = (loop.create_future() for _ in range(3))
        deadlines.add(done, loop.time() + 0.01)
        deadlines.add(left, loop.time() + 0.01)
        deadlines.add(last, loop.time() + 0.03)
        done.set_result("a result")
        deadlines.discard(left)
        deadlines.discard(left)
        with pytest.raises(DeadlineExceeded):
            await last
        assert done.result() == "a result"
        assert not left.done()

    asyncio.run(main())


def test_a_deadline_in_the_past_fails_soon() -> None:
    async def main() -> None:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        future = loop.create_future()
        deadlines.add(future, loop.time() - 1)
        with pytest.raises(DeadlineExceeded):
            await future

    asyncio.run(main())


def test_time_that_is_over_already() -> None:
    async def main() -> None:
        loop, deadlines = asyncio.get_running_loop(), Deadlines()
        futures = [loop.create_future() for _ in range(3)]
        for future in futures:
            deadlines.add(future, loop.time())
        for future in futures:
            with pytest.raises(DeadlineExceeded):
                await future

    uvloop.run(asyncio.wait_for(main(), 30))
