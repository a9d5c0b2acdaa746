"""The door of the queue: how much may wait, and what is told to those who may not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.admission import CALM, DEADLINE_PART, Admission, Throughput
from service.errors import Overloaded
from service.queueing import FairQueue

RATE = 1_000  # tokens a second
SMALL, LARGE = 100, 3_000  # tokens of requests of two classes


class Door:
    """A queue of requests of one row each, in front of something that computes RATE tokens a second."""

    def __init__(
        self, max_seconds: float = 10.0, max_tokens: int = 10**9, measured: bool = True, first: float | None = None
    ) -> None:
        self.queue: FairQueue[int] = FairQueue(512)
        self.throughput = Throughput(first=first)
        self.admission = Admission(self.queue, max_tokens, max_seconds, self.throughput)
        self.now = 100.0
        self.rows = 0
        self.room = 0.0  # tokens of a row that is begun
        if measured:
            self.throughput.waits(self.now - 1)
            self.throughput.computed(RATE, 1, 0, self.now)
            self.throughput.rests(self.now)

    def come(self, tokens: int = SMALL, left: float = math.inf) -> float | None:
        """What it is told; None where it is let in."""
        try:
            self.admission.check(tokens, 0, left, self.now)
        except Overloaded as refused:
            return refused.retry_after
        self.rows += 1
        self.queue.add([(self.rows, tokens)])
        return None

    def come_all(self, count: int, tokens: int = SMALL) -> list[float | None]:
        return [self.come(tokens) for _ in range(count)]

    def work(self, seconds: float) -> None:
        """What waits is computed, oldest first."""
        self.room += seconds * RATE
        self.now += seconds
        for one in self.queue._classes:
            for row, tokens in list(one.waiting.items()):
                if tokens <= self.room:
                    self.room -= tokens
                    one.remove([row])
        if not self.queue:
            self.room = 0.0


def test_a_burst_may_wait_for_as_long_as_is_set_and_then_is_refused() -> None:
    door = Door(max_seconds=10)
    told = door.come_all(120)
    assert told[:100] == [None] * 100
    assert None not in told[100:]


def test_nothing_is_refused_by_time_before_the_speed_is_known() -> None:
    assert Door(measured=False).come_all(1000) == [None] * 1000


def test_what_was_seen_at_a_load_counts_until_something_has_waited() -> None:
    door = Door(max_seconds=10, measured=False, first=RATE)
    assert door.come_all(101)[99:] == [None, pytest.approx(10, rel=0.1)]
    door = Door(max_seconds=10, measured=False, first=RATE)
    door.come_all(50)
    assert door.come(left=5 / DEADLINE_PART - 1) is not None


def test_after_a_refusal_little_may_wait_until_it_was_quiet_for_a_while() -> None:
    door = Door(max_seconds=10)
    door.come_all(101)
    for _ in range(8):
        door.work(1)
        assert door.come() is not None  # 2 s of work still wait in the end
    door.work(2 - CALM / 2)
    assert door.come() is None
    assert None not in door.come_all(20)[int(CALM * RATE / SMALL) :]
    assert door.queue.tokens <= CALM * RATE
    door.work(60)
    assert door.come_all(100) == [None] * 100


def test_what_is_told_is_what_the_queue_takes_within_a_factor_of_two() -> None:
    door = Door(max_seconds=10)
    for one in door.come_all(500)[100:]:
        assert one is not None
        assert 10 <= one <= 10 * 4 / 3 + 0.1


def test_those_who_are_refused_one_after_another_come_back_one_after_another() -> None:
    """Each finds the place that it was told of: nobody is refused twice."""
    door = Door(max_seconds=10)
    returns = sorted(door.now + (one or 0) for one in door.come_all(130)[100:])
    assert len(set(returns)) == 30
    for back in returns:
        door.work(back - door.now)
        assert door.come() is None


def test_a_class_that_refuses_does_not_close_the_others() -> None:
    door = Door(max_seconds=10)
    assert door.come_all(30, LARGE)[-1] is not None
    assert door.come_all(3) == [None] * 3


def test_a_request_that_has_no_time_to_wait_is_refused_alone() -> None:
    door = Door(max_seconds=10)
    door.come_all(50)
    assert door.come(left=5 / DEADLINE_PART - 1) is not None
    assert not door.admission.is_strict(door.now)
    assert door.come(left=5 / DEADLINE_PART + 1) is None


def test_one_larger_than_any_limit_is_let_in_where_none_of_its_class_waits() -> None:
    door = Door(max_seconds=0.01, max_tokens=10)
    assert door.come(100_000, left=1) is None
    assert door.come(100_000, left=1) is not None


def test_larger_requests_may_wait_longer_in_proportion() -> None:
    door = Door(max_seconds=1)
    assert door.come_all(8, 2_000)[:8] == [None] * 8
    assert door.come(2_000) is not None


@given(st.lists(st.tuples(st.floats(0.001, 2), st.integers(1, 5_000)), min_size=5))
def test_throughput_is_between_the_slowest_and_the_fastest_of_what_it_saw(steps: list[tuple[float, int]]) -> None:
    seen = Throughput()
    now = 5.0
    seen.waits(now)
    for seconds, tokens in steps:
        since = seen.waited(now)
        now += seconds
        seen.computed(tokens, seconds, since, now)
    if seen.is_measured:
        rates = [tokens / seconds for seconds, tokens in steps]
        assert min(rates) * 0.999 <= seen.rate <= max(rates) * 1.001


def test_time_in_which_nothing_waited_does_not_count() -> None:
    seen = Throughput()
    for now in range(0, 1_000, 100):
        since = seen.waited(now)
        seen.waits(now)
        seen.computed(500, 0.5, since, now + 0.5)
        seen.rests(now + 0.5)
        seen.computed(500, 50, seen.waited(now + 0.6), now + 50)
    assert seen.rate == pytest.approx(1_000, rel=0.01)


def test_of_what_had_begun_before_anything_waited_a_part_counts() -> None:
    seen = Throughput()
    for now in range(0, 1_000, 100):
        since = seen.waited(now)
        seen.waits(now + 0.8)
        seen.computed(500, 1.0, since, now + 1)  # a fifth of it in 0.2 seconds
        seen.computed(200, 0.6, since, now + 1.4)
        seen.computed(100, 0.6, since, now + 1.6)
        seen.rests(now + 1.6)
    assert seen.rate == pytest.approx(500, rel=0.01)


@pytest.mark.parametrize("executors", [1, 2, 7])
def test_a_queue_that_empties_with_every_batch_tells_as_much_as_a_full_one(executors: int) -> None:
    """Executors are always busy, with 100 tokens a second each, and begin one after another; in the second half of the
    time between two of them something waits."""
    seen = Throughput()
    begun = dict.fromkeys(range(executors), 0.0)
    for step in range(50 * executors):
        now = step / executors
        seen.waits(now - 0.5 / executors)
        seen.computed(100, 1.0, begun[step % executors], now)
        begun[step % executors] = seen.waited(now)
        seen.rests(now)
    assert seen.rate == pytest.approx(100 * executors, rel=0.02)


def test_one_long_stop_is_forgotten_as_soon_as_any_other_time() -> None:
    seen = Throughput()
    seen.waits(0)
    seen.computed(10, 1_000, 0, 1_000)
    for now in range(1_001, 1_016):
        seen.computed(500, 1, seen.waited(now - 1), now)
    assert seen.rate == pytest.approx(500, rel=0.05)


def test_who_is_expected_to_be_of_a_full_class_is_turned_away_without_a_look() -> None:
    door = Door(max_seconds=10)
    assert not door.admission.turns_away(SMALL, door.now)
    door.come_all(101)
    assert door.admission.turns_away(SMALL, door.now)
    assert not door.admission.turns_away(LARGE, door.now)


@pytest.mark.parametrize("most", [513, 1_000, 2_000])
def test_who_may_be_of_a_class_with_room_is_looked_at(most: int) -> None:
    """It has so many tokens at most, and may have any number below that."""
    for full in (SMALL, 600):
        door = Door(max_seconds=10)
        door.come_all(201, full)
        assert not door.admission.turns_away(most, door.now)


@given(st.lists(st.integers(1, 5_000), min_size=40, max_size=200), st.integers(1, 5_000), st.floats(0, 1))
def test_who_is_turned_away_would_have_been_refused(came: list[int], most: int, part: float) -> None:
    door = Door(max_seconds=2)
    for one in came:
        door.come(one)
    if door.admission.turns_away(most, door.now):
        assert door.come(max(1, round(part * most))) is not None
