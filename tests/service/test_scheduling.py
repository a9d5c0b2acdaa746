"""Which batch starts now, and where."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from service.packing import BATCH_OVERHEAD
from service.queueing import CLASSES
from service.scheduling import Lane, Scheduler, Share, Turn

Row = tuple[str, int]  # name of its request, number
BUDGET = 32
SHORT, LONG = [8], [16] * 1000

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60)


class Alone:
    """A scheduler with one lane, as that of a server of one model."""

    def __init__(self, executors: int, budget: int) -> None:
        self._scheduler: Scheduler[Row] = Scheduler(executors)
        self.lane: Lane[Row] = self._scheduler.lane(Share(), budget)
        self.start, self.ended, self.again = self._scheduler.start, self._scheduler.ended, self._scheduler.again

    @property
    def running(self) -> int:
        assert self.lane.running == self._scheduler.running
        return self._scheduler.running

    @property
    def is_idle(self) -> bool:
        return self.lane.is_idle


def fill(scheduler: Alone, name: str, lengths: list[int]) -> None:
    scheduler.lane.add([((name, number), length) for number, length in enumerate(lengths)])


def names(turn: Turn[Row] | None) -> set[str]:
    assert turn is not None
    return {name for name, _ in turn.rows}


def started(scheduler: Alone) -> list[Turn[Row]]:
    found = []
    while turn := scheduler.start():
        found.append(turn)
    return found


def test_every_executor_gets_a_batch_of_longer_requests_and_no_more() -> None:
    scheduler = Alone(3, BUDGET)
    fill(scheduler, "document", LONG)
    turns = started(scheduler)
    assert [turn.is_express for turn in turns] == [False] * 3
    scheduler.ended(turns[1])
    assert len(started(scheduler)) == 1


@given(st.integers(1, 8), st.lists(lengths, max_size=5))
def test_a_short_request_starts_at_once_whatever_longer_ones_run_and_wait(
    executors: int, others: list[list[int]]
) -> None:
    scheduler = Alone(executors, BUDGET)
    fill(scheduler, "document", LONG)
    for number, other in enumerate(others):
        fill(scheduler, str(number), [40, *other])  # larger than a batch
    assert len(started(scheduler)) == executors
    fill(scheduler, "short", SHORT)
    (turn,) = started(scheduler)
    assert names(turn) == {"short"}
    assert turn.is_express


def test_the_express_executor_runs_one_batch_at_a_time() -> None:
    scheduler = Alone(1, BUDGET)
    fill(scheduler, "document", LONG)
    started(scheduler)
    fill(scheduler, "first", SHORT)
    (express,) = started(scheduler)
    fill(scheduler, "second", SHORT)
    assert not started(scheduler)
    scheduler.ended(express)
    assert [turn.is_express for turn in started(scheduler)] == [True]


def test_the_express_executor_takes_nothing_out_of_turn() -> None:
    scheduler = Alone(1, BUDGET)
    fill(scheduler, "document", LONG)
    started(scheduler)
    for number in range(20):
        fill(scheduler, f"short {number}", [BUDGET])
    served = 0
    while express := scheduler.start():
        served += len(express.rows)
        scheduler.ended(express)
    assert served == 2  # as much as the document's batch that runs, and one more: the next turn is the document's


def test_beside_short_requests_alone_the_express_executor_stands_idle() -> None:
    scheduler = Alone(2, BUDGET)
    for number in range(10):
        fill(scheduler, str(number), [BUDGET])
    turns = started(scheduler)
    assert len(turns) == 4  # two that run, and two that lie ready
    assert not any(turn.is_express for turn in turns)
    assert scheduler.running == 4


def test_only_full_batches_lie_ready() -> None:
    scheduler = Alone(1, BUDGET)
    fill(scheduler, "first", [BUDGET])
    fill(scheduler, "second", [BUDGET - 1])
    assert len(started(scheduler)) == 1
    fill(scheduler, "third", [1])
    assert len(started(scheduler)) == 1


def test_what_runs_once_more_goes_before_what_waits_when_an_executor_is_free() -> None:
    scheduler = Alone(1, BUDGET)
    fill(scheduler, "document", LONG)
    (turn,) = started(scheduler)
    scheduler.again(turn, turn.rows[:1])
    assert not started(scheduler)
    scheduler.ended(turn)
    assert [one.rows for one in started(scheduler)] == [turn.rows[:1]]


def test_idle_is_when_nothing_waits_and_nothing_runs() -> None:
    scheduler = Alone(1, BUDGET)
    assert scheduler.is_idle
    fill(scheduler, "short", SHORT)
    assert not scheduler.is_idle
    (turn,) = started(scheduler)
    assert not scheduler.is_idle
    scheduler.ended(turn)
    assert scheduler.is_idle
    scheduler.again(turn, turn.rows)
    assert not scheduler.is_idle


@given(
    executors=st.integers(1, 4),
    sizes=st.lists(lengths, min_size=1, max_size=4),
    oldest=lengths,
    ends=st.lists(st.integers(0, 100), min_size=1, max_size=50),
)
def test_nobody_starves(executors: int, sizes: list[list[int]], oldest: list[int], ends: list[int]) -> None:
    """Requests of any sizes that come again whenever they are done, and batches that end in any order: one request
    more has run after a number of batches that its own size and the number of classes bound."""
    scheduler = Alone(executors, BUDGET)
    requests = {str(number): size for number, size in enumerate(sizes)}
    left = {name: len(size) for name, size in requests.items()}
    for name, size in requests.items():
        fill(scheduler, name, size)
    running = deque(started(scheduler))
    fill(scheduler, "the one", oldest)
    waiting = len(oldest)
    # Before it in its class at most everybody else's rows, each a batch; beside it as much of every other class, whose
    # batches may be so small that only the overhead counts; and what runs or lies ready.
    rows = len(oldest) + sum(map(len, sizes))
    smaller = 1 + (40 + BATCH_OVERHEAD) // (1 + BATCH_OVERHEAD)
    for batches in range((rows + 1) * CLASSES * smaller + 2 * executors + 1):
        turns = started(scheduler)
        running.extend(turns)
        waiting -= sum(name == "the one" for turn in turns for name, _ in turn.rows)
        if not waiting:
            return
        running.rotate(ends[batches % len(ends)])
        scheduler.ended(turn := running.popleft())
        for name, _ in turn.rows:
            if name in left:
                left[name] -= 1
                if not left[name]:
                    left[name] = len(requests[name])
                    fill(scheduler, name, requests[name])
    raise AssertionError(f"{waiting} rows still wait")
