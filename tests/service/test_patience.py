"""What is overdue, in the order of its time, and what is not."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from service.patience import Patience


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
def test_what_does_not_come_is_overdue_once_and_what_came_is_not(runner: object) -> None:
    async def main() -> list[str]:
        overdue: list[str] = []
        patience = Patience(asyncio.get_running_loop(), overdue.append)
        patience.expect("late", 0.06)
        patience.expect("early", 0.02)
        patience.expect("came", 0.03)
        patience.expect("put off", 0.01)
        patience.came("came")
        patience.came("never owed")
        patience.expect("put off", 0.1)
        while len(overdue) < 3:  # noqa: ASYNC110 - timers of the loop call it
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        return overdue

    assert runner(main()) == ["early", "late", "put off"]  # type: ignore[operator]


def test_what_is_overdue_may_be_expected_again_until_the_end() -> None:
    async def main() -> int:
        overdue: list[str] = []

        def again(what: str) -> None:
            overdue.append(what)
            patience.expect(what, 0.01)
            if len(overdue) == 3:
                patience.end()

        patience = Patience(asyncio.get_running_loop(), again)
        patience.expect("reply", 0.01)
        while len(overdue) < 3:  # noqa: ASYNC110 - timers of the loop call it
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        return len(overdue)

    assert asyncio.run(main()) == 3
