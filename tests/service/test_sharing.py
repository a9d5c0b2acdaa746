"""Several models on one device: whose batch goes next, by counts and given seconds alone."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.batch import Rows
from service.batcher import Batcher
from service.device import Device
from service.scheduling import Lane, Scheduler, Share, Turn
from service.types import Matrix

Row = tuple[str, int]
BUDGET = 32


class Machine:
    """A device whose batches take the seconds that each model's tokens are said to take, in the order of their ends."""

    def __init__(self, executors: int, paces: dict[str, float], weights: dict[str, float] | None = None) -> None:
        self.scheduler: Scheduler[Row] = Scheduler(executors)
        self.paces = paces
        self.shares = {name: Share((weights or {}).get(name, 1.0)) for name in paces}
        self.lanes = {name: self.scheduler.lane(self.shares[name], BUDGET) for name in paces}
        self.now = 0.0
        self.running: list[tuple[float, int, Turn[Row]]] = []
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._numbers = iter(range(10**9))

    def fill(self, name: str, lengths: list[int]) -> None:
        self.lanes[name].add([((name, next(self._numbers)), length) for length in lengths])

    def start(self) -> list[Turn[Row]]:
        found = []
        while turn := self.scheduler.start():
            found.append(turn)
            self.running.append((self.now + self.cost(turn), next(self._numbers), turn))
        return found

    def cost(self, turn: Turn[Row]) -> float:
        return turn.cost * self.paces[turn.rows[0][0]]

    def step(self) -> None:
        """To the end of the next batch."""
        self.running.sort()
        self.now, _, turn = self.running.pop(0)
        self.seconds[turn.rows[0][0]] += self.cost(turn)
        self.scheduler.ended(turn, self.cost(turn))


def keep_busy(machine: Machine, lengths: dict[str, list[int]], batches: int) -> None:
    for _ in range(batches):
        for name, mine in lengths.items():
            while machine.lanes[name].queue.tokens < 10 * BUDGET:
                machine.fill(name, mine)
        machine.start()
        machine.step()


paces = st.floats(1e-5, 1e-2)
sizes = st.lists(st.integers(1, 40), min_size=1, max_size=30)


@given(
    executors=st.integers(1, 4),
    mine=st.tuples(paces, sizes, st.sampled_from([1.0, 2.0, 5.0])),
    other=st.tuples(paces, sizes, st.sampled_from([1.0, 2.0, 5.0])),
)
def test_two_busy_models_have_the_device_by_their_weights(
    executors: int, mine: tuple[float, list[int], float], other: tuple[float, list[int], float]
) -> None:
    """However slow one of them is, however large its requests, and however many: what each was given, by its weight,
    never differs by more than what is under way."""
    machine = Machine(executors, {"a": mine[0], "b": other[0]}, {"a": mine[2], "b": other[2]})
    lengths = {"a": mine[1], "b": 10 * other[1]}
    keep_busy(machine, lengths, 300)
    largest = {name: (BUDGET + 40 + 8) * machine.paces[name] for name in machine.paces}  # a row may be over the budget
    # A model gets a batch too many or too few for each executor, the express one included; and until its first batches
    # have ended, by what they were expected to take.
    guess = (BUDGET + 48) / 5_000
    apart = sum((executors + 2) * (largest[name] + guess) / machine.shares[name].weight for name in largest)
    served = {name: machine.seconds[name] / machine.shares[name].weight for name in machine.paces}
    assert abs(served["a"] - served["b"]) <= apart


def test_ten_times_the_clients_do_not_make_it_more_than_half() -> None:
    machine = Machine(2, {"a": 1e-4, "b": 1e-4})
    keep_busy(machine, {"a": [8] * 100, "b": [8] * 10}, 2000)
    assert machine.seconds["a"] / sum(machine.seconds.values()) == pytest.approx(0.5, abs=0.01)


def test_weights_divide_the_device() -> None:
    machine = Machine(2, {"a": 1e-4, "b": 3e-4}, {"a": 3.0})
    keep_busy(machine, {"a": [8] * 20, "b": [30] * 20}, 2000)
    assert machine.seconds["a"] / sum(machine.seconds.values()) == pytest.approx(0.75, abs=0.01)


def test_one_busy_model_has_the_whole_device_and_saves_nothing_up() -> None:
    machine = Machine(2, {"a": 1e-4, "b": 1e-4})
    for _ in range(500):
        machine.fill("a", [BUDGET] * 4)
        assert {turn.rows[0][0] for turn in machine.start()} <= {"a"}
        machine.step()
    before = machine.seconds.copy()
    keep_busy(machine, {"a": [BUDGET] * 4, "b": [BUDGET] * 4}, 400)
    assert machine.seconds["b"] - before["b"] == pytest.approx(machine.seconds["a"] - before["a"], rel=0.05)


@given(executors=st.integers(1, 4), others=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=90)))
def test_a_short_request_starts_at_once_beside_another_models_batches(executors: int, others: list[list[int]]) -> None:
    """Be they of short requests or of long ones, and whatever waits behind them; or when the one short batch ends that
    has the express executor."""
    machine = Machine(executors, {"large": 1.0, "small": 1e-4})
    for one in [[BUDGET]] * 2 * executors + others:
        machine.fill("large", one)
    before = [turn for turn in machine.start() if turn.is_express]
    machine.fill("small", [8])
    if before:
        assert not machine.start()
        machine.scheduler.ended(before[0], 1.0)
    (turn,) = machine.start()
    assert turn.rows[0][0] == "small"
    assert turn.is_express


def test_the_outputs_of_a_model_share_what_it_has() -> None:
    machine = Machine(1, {"a": 1e-4, "b": 1e-4})
    machine.lanes["tokens of b"] = machine.scheduler.lane(machine.shares["b"], BUDGET)
    machine.paces["tokens of b"] = 1e-4
    keep_busy(machine, dict.fromkeys(machine.lanes, [BUDGET] * 4), 4000)
    parts = {name: seconds / sum(machine.seconds.values()) for name, seconds in machine.seconds.items()}
    assert parts == {name: pytest.approx(part, abs=0.01) for name, part in zip("ab", (0.5, 0.25), strict=True)} | {
        "tokens of b": pytest.approx(0.25, abs=0.01)
    }


def test_a_lane_that_left_is_not_asked_any_more() -> None:
    machine = Machine(1, {"a": 1e-4, "b": 1e-4})
    machine.scheduler.remove(machine.lanes.pop("b"))
    machine.fill("a", [8])
    assert len(machine.start()) == 1
    assert machine.scheduler.is_alone
    assert machine.scheduler.fraction(machine.shares["a"]) == 1.0


def test_the_fraction_of_the_device_that_a_model_may_expect() -> None:
    machine = Machine(1, {"a": 1e-4, "b": 1e-4}, {"a": 3.0})
    assert machine.scheduler.fraction(machine.shares["b"]) == 1.0
    machine.fill("a", [8])
    assert machine.scheduler.fraction(machine.shares["b"]) == 0.25
    assert machine.scheduler.fraction(machine.shares["a"]) == 1.0


@given(ends=st.lists(st.integers(0, 10), min_size=1, max_size=20), models=st.integers(2, 5))
def test_nobody_starves(ends: list[int], models: int) -> None:
    """A request of one model, beside endless ones of others, has run after a number of batches that theirs bound."""
    scheduler: Scheduler[Row] = Scheduler(2)
    lanes: list[Lane[Row]] = [scheduler.lane(Share(), BUDGET) for _ in range(models)]
    draw = random.Random(0)
    running: list[Turn[Row]] = []

    def fill() -> None:
        for number, lane in enumerate(lanes[1:], 1):
            while len(lane.queue) < 4:
                lane.add(
                    [((str(number), draw.getrandbits(60)), draw.randint(1, 40)) for _ in range(draw.randint(1, 9))]
                )

    def start() -> None:
        while turn := scheduler.start():
            running.append(turn)

    fill()
    start()
    lanes[0].add([(("the one", 0), 20)])
    for batches in range(4 * models):
        start()
        if any(turn.lane is lanes[0] for turn in running):
            return
        turn = running.pop(ends[batches % len(ends)] % len(running))
        scheduler.ended(turn, draw.random())
        fill()
    raise AssertionError("it still waits")


def test_requests_of_two_models_get_their_own_answers_from_shared_executors() -> None:
    """Real threads; what one of them raises is not the other's."""
    ran: Counter[str] = Counter()
    lock = threading.Lock()

    def model(name: str, sign: int) -> Any:
        def run(rows: Rows) -> Matrix:
            with lock:
                ran[name] += 1
            if name == "broken" and any(row[0] % 7 == 0 for row in rows):
                raise ValueError("seven")
            return np.array([[sign * row[0], len(row)] for row in rows], dtype=np.float32)

        return run

    async def test() -> None:
        device: Device[Any] = Device(2)
        batchers = {
            name: Batcher(model(name, sign), model=name, device=device, max_batch_tokens=16, max_queue_tokens=10**6)
            for name, sign in (("good", 1), ("broken", -1))
        }
        asked = [(name, number) for number in range(1, 300) for name in batchers]
        answers = await asyncio.gather(
            *(batchers[name].submit([[number, 0, 0]]) for name, number in asked), return_exceptions=True
        )
        for (name, number), answer in zip(asked, answers, strict=True):
            if name == "broken" and number % 7 == 0:
                assert isinstance(answer, Exception)
                continue
            assert not isinstance(answer, BaseException)
            assert answer.results[0].tolist() == [number if name == "good" else -number, 3]
        await batchers["broken"].close()
        assert (await batchers["good"].submit([[5]])).results[0].tolist() == [5, 1]
        await batchers["good"].close()
        device.close()

    asyncio.run(asyncio.wait_for(test(), 30))
    assert set(ran) == {"good", "broken"}
