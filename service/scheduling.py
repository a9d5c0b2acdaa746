"""Which batch starts now, and where: the rules between the queues and the executors. Pure: no clock, no lock, no await.

Models share the executors of their device. What asks for something else of them waits in a `Lane` of its own: another
model, or another output of one. Whenever an executor is free, the model goes next that has been served least, by the
seconds of executors that its batches took and by its weight (start-time fair queueing, as between the classes of
`queueing`): where several have work each has its share, and where one has work it has everything. Of the lanes of a
model, and within a lane of the classes of requests, that goes next which has been served least.

When no executor is free, and one of them runs a batch of longer requests or of another model, the short requests'
batch goes at its turn to the express executor, one more than the others and kept for that.

A batch cannot be interrupted once it runs, and one of long rows, or of a large model, takes a hundred milliseconds and
more on a CPU. Without the express executor a short request waits for the first of them to end. With it, the operating
system lets it compute beside them, for its share of the cores: it costs the others what it computes and no more. It
takes nothing out of turn, so the shares stay as they are; and where only short requests of one model run it stands
idle, because more batches at a time than executors gain nothing.

There, one further full batch per executor may lie ready instead, so that an executor never waits for the event loop
between two batches: only a full one, because a batch formed early could have grown.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from service.packing import USUAL, Costs
from service.queueing import FairQueue

Row = TypeVar("Row", bound=Hashable)

# Until a lane's first batch has ended: seconds per token of a small encoder on one core.
_FIRST_GUESS = 1 / 5_000
_MEMORY = 0.9  # weight of the past in the moving average of seconds per token


@dataclass(slots=True, eq=False)
class Share:
    """A model's account on a device. `weight` to the other models' is what it may have of a busy device."""

    weight: float = 1.0
    served: float = 0.0  # seconds of executors ÷ weight, or the others' level where it was idle meanwhile
    clock: float = 0.0  # `served` of its lane that went last, before it went
    running: int = 0  # batches on the executors, or ready for them; without the express one


@dataclass(frozen=True, slots=True, eq=False)
class Turn(Generic[Row]):
    """A batch that starts. `is_short`: its requests each fit one batch. `is_express`: on that executor.

    `cost` is in tokens, as packing's. `seconds` is what it has been charged with: what it is expected to take."""

    lane: Lane[Row]
    rows: Sequence[Row]
    is_short: bool
    is_express: bool = False
    cost: int = 0
    seconds: float = 0.0


class Lane(Generic[Row]):
    """What waits for one output of a model, and its account within its model's share."""

    def __init__(self, scheduler: Scheduler[Row], share: Share, max_batch_tokens: int, costs: Costs) -> None:
        self.queue: FairQueue[Row] = FairQueue(max_batch_tokens, costs)
        self.share = share
        self.running = 0  # batches that have started and not ended
        self.again: deque[Turn[Row]] = deque()
        self.served = 0.0
        self.seconds_per_token = _FIRST_GUESS
        self._scheduler = scheduler

    @property
    def has_work(self) -> bool:
        """Whether anything waits."""
        return bool(self.again or self.queue)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits, and nothing runs."""
        return not (self.running or self.has_work)

    def add(self, new: Sequence[tuple[Row, int]], waiting: Sequence[tuple[Row, int]] = ()) -> None:
        """As FairQueue.add. Time that model or lane spent idle is not saved up."""
        if not self.has_work:
            self._scheduler.wake(self)
        self.queue.add(new, waiting)


class Scheduler(Generic[Row]):
    """The lanes of one device, and what runs of them."""

    def __init__(self, executors: int) -> None:
        """`executors` without the express one."""
        self._executors = executors
        self._lanes: list[Lane[Row]] = []
        self._clock = 0.0  # `served` of the share that went last, before it went
        self._occupied = 0  # batches that run on the executors or lie ready for them
        self._longer = 0  # of them, those of longer requests
        self._express = 0  # batches on the express executor

    def lane(self, share: Share, max_batch_tokens: int, costs: Costs = USUAL) -> Lane[Row]:
        """A new one. Lanes with the same `share` are of one model."""
        lane = Lane(self, share, max_batch_tokens, costs)
        self._lanes.append(lane)
        return lane

    def remove(self, lane: Lane[Row]) -> None:
        """It is idle, and nothing will be added to it any more."""
        self._lanes.remove(lane)

    @property
    def is_alone(self) -> bool:
        """Whether one batch runs, and nothing waits."""
        return self.running == 1 and not any(lane.has_work for lane in self._lanes)

    @property
    def running(self) -> int:
        """Batches that have started and not ended."""
        return self._occupied + self._express

    def fraction(self, share: Share) -> float:
        """Of the device's time, what those of a model's batches that wait may expect, in (0, 1]."""
        busy = {id(lane.share): lane.share.weight for lane in self._lanes if not lane.is_idle}
        busy[id(share)] = share.weight
        return share.weight / sum(busy.values())

    def wake(self, lane: Lane[Row]) -> None:
        """Something is about to wait in an empty lane."""
        share = lane.share
        if not any(other.has_work for other in self._lanes if other.share is share):
            share.served = max(share.served, self._clock)
        lane.served = max(lane.served, share.clock)

    def start(self) -> Turn[Row] | None:
        """The batch that starts now; None where none does. The caller says when it has `ended`."""
        lane = self._next_lane()
        turn = None if lane is None else self._next(lane)
        if turn is not None:
            self._count(turn, +1)
        return turn

    def ended(self, turn: Turn[Row], seconds: float | None = None) -> None:
        """Its executor is free again, after so many seconds; None where it did not run, or failed."""
        self._count(turn, -1)
        if seconds is None:
            return
        lane = turn.lane
        self._charge(lane, seconds - turn.seconds)
        if turn.cost:
            lane.seconds_per_token = _MEMORY * lane.seconds_per_token + (1 - _MEMORY) * seconds / turn.cost

    def again(self, turn: Turn[Row], rows: Sequence[Row]) -> None:
        """Some rows of a batch that has ended are to run once more, before anything that waits in its lane."""
        if not turn.lane.has_work:
            self.wake(turn.lane)
        turn.lane.again.append(replace(turn, rows=rows, is_express=False, cost=0, seconds=0.0))

    def _next_lane(self) -> Lane[Row] | None:
        """Of the model that was served least, the lane that was; of equals, the first."""
        waiting = [lane for lane in self._lanes if lane.has_work]
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return min(waiting, key=lambda lane: (lane.share.served, lane.served))

    def _next(self, lane: Lane[Row]) -> Turn[Row] | None:
        if self._occupied < self._executors:
            return lane.again.popleft() if lane.again else self._take(lane)
        if not lane.queue.is_short_next:
            return None
        if self._longer or lane.share.running < self._occupied:
            return None if self._express else self._take(lane, is_express=True)
        return self._take(lane) if self._occupied < 2 * self._executors and lane.queue.has_a_full_short_batch else None

    def _take(self, lane: Lane[Row], is_express: bool = False) -> Turn[Row]:
        is_short, before = lane.queue.is_short_next, lane.queue.taken
        rows = lane.queue.take()
        cost = lane.queue.taken - before
        seconds = cost * lane.seconds_per_token
        self._clock, lane.share.clock = lane.share.served, lane.served
        self._charge(lane, seconds)
        return Turn(lane, rows, is_short, is_express, cost, seconds)

    def _charge(self, lane: Lane[Row], seconds: float) -> None:
        lane.share.served += seconds / lane.share.weight
        lane.served += seconds

    def _count(self, turn: Turn[Row], change: int) -> None:
        turn.lane.running += change
        if turn.is_express:
            self._express += change
        else:
            self._occupied += change
            turn.lane.share.running += change
            self._longer += 0 if turn.is_short else change
