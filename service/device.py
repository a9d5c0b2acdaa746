"""What runs batches: the executors of one device, which its models share. The event loop owns every field."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from service.executors import Executors, Then
from service.packing import USUAL, Costs
from service.scheduling import Lane, Scheduler, Share, Turn

Row = TypeVar("Row", bound=Hashable)
Result = TypeVar("Result")


class Device(Generic[Row]):
    """Executors, the express one, and whose turn it is."""

    def __init__(self, executors: int, name: str = "cpu") -> None:
        """`executors` without the express one; their threads begin with the first batch."""
        self.executors = executors
        self.scheduler: Scheduler[Row] = Scheduler(executors)
        self._pool = Executors(executors, f"executor-{name}")
        self._express = Executors(1, f"express-{name}")
        self._begin: dict[Lane[Row], Callable[[Turn[Row]], None]] = {}
        self._dispatch_is_due = False

    def join(
        self,
        begin: Callable[[Turn[Row]], None],
        share: Share,
        max_batch_tokens: int,
        costs: Costs = USUAL,
    ) -> Lane[Row]:
        """A lane of its own. `begin` is told of each of its turns, and calls `run` for it, or says that it `ended`."""
        lane = self.scheduler.lane(share, max_batch_tokens, costs)
        self._begin[lane] = begin
        return lane

    def leave(self, lane: Lane[Row]) -> None:
        """It is idle, and stays so."""
        self.scheduler.remove(lane)
        del self._begin[lane]

    def dispatch_soon(self) -> None:
        """Once per turn of the loop, so that requests arriving together are packed together."""
        if not self._dispatch_is_due:
            self._dispatch_is_due = True
            asyncio.get_running_loop().call_soon(self.dispatch)

    def dispatch(self) -> None:
        """Begins every batch that starts now."""
        self._dispatch_is_due = False
        while turn := self.scheduler.start():
            self._begin[turn.lane](turn)

    def run(self, turn: Turn[Row], work: Callable[[], Result], then: Then[Result]) -> None:
        """On the executor that the turn is for; `then` as in Executors.start."""
        (self._express if turn.is_express else self._pool).start(work, then)

    def close(self) -> None:
        """Waits for what is under way, and ends the threads."""
        self._pool.close()
        self._express.close()
