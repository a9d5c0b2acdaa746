"""Which batch starts now, and where: the rules between the queue and the executors. Pure: no clock, no lock, no await.

Two rules. Whenever an executor is free, the class of requests that has been served least goes next (`queueing`). When
none is, and one of them runs a batch of longer requests, the short requests' batch goes at their turn to the express
executor, one more than the others and kept for that.

A batch cannot be interrupted once it runs, and one of long rows takes a hundred milliseconds on a CPU. Without the
express executor a short request waits for the first of them to end. With it, the operating system lets it compute
beside them, for its share of the cores: it costs the others what it computes and no more. It takes nothing out of
turn, so the shares of the classes stay as they are; and where only short requests run it stands idle, because more
batches at a time than executors gain nothing.

Where only short requests run, one further full batch per executor may lie ready instead, so that an executor never
waits for the event loop between two batches: only a full one, because a batch formed early could have grown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.packing import BATCH_OVERHEAD
from service.queueing import FairQueue

Row = TypeVar("Row", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Turn(Generic[Row]):
    """A batch that starts. `is_short`: its requests each fit one batch. `is_express`: on that executor."""

    rows: Sequence[Row]
    is_short: bool
    is_express: bool = False


class Scheduler(Generic[Row]):
    """The queue, and what runs of it."""

    def __init__(self, executors: int, max_batch_tokens: int, batch_overhead: int = BATCH_OVERHEAD) -> None:
        """`executors` without the express one."""
        self.queue: FairQueue[Row] = FairQueue(max_batch_tokens, batch_overhead)
        self._executors = executors
        self._again: deque[Turn[Row]] = deque()
        self._occupied = 0  # batches that run on the executors or lie ready for them
        self._longer = 0  # of them, those of longer requests
        self._express = 0  # batches on the express executor

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, and nothing waits."""
        return not (self.running or self._again or self.queue)

    @property
    def is_alone(self) -> bool:
        """Whether one batch runs, and nothing waits."""
        return self.running == 1 and not (self._again or self.queue)

    @property
    def running(self) -> int:
        """Batches that have started and not ended."""
        return self._occupied + self._express

    def start(self) -> Turn[Row] | None:
        """The batch that starts now; None where none does. The caller says when it has `ended`."""
        if (turn := self._next()) is None:
            return None
        self._count(turn, +1)
        return turn

    def ended(self, turn: Turn[Row]) -> None:
        """Its executor is free again."""
        self._count(turn, -1)

    def again(self, turn: Turn[Row], rows: Sequence[Row]) -> None:
        """Some rows of a batch that has ended are to run once more, before anything that waits."""
        self._again.append(Turn(rows, turn.is_short))

    def _next(self) -> Turn[Row] | None:
        if self._occupied < self._executors:
            if self._again:
                return self._again.popleft()
            return self._take() if self.queue else None
        if not self.queue.is_short_next:
            return None
        if self._longer:
            return None if self._express else self._take(is_express=True)
        return self._take() if self._occupied < 2 * self._executors and self.queue.has_a_full_short_batch else None

    def _take(self, is_express: bool = False) -> Turn[Row]:
        is_short = self.queue.is_short_next
        return Turn(self.queue.take(), is_short, is_express)

    def _count(self, turn: Turn[Row], change: int) -> None:
        if turn.is_express:
            self._express += change
        else:
            self._occupied += change
            self._longer += 0 if turn.is_short else change
