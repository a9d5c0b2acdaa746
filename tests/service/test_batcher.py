"""The queue: batching, its limit, deadlines, cancellation, faults. The runtime is a function of the test's."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from service import metrics
from service.batch import Outcome
from service.batcher import Batcher
from service.cache import Cache
from service.device import Device
from service.errors import BadVectors, DeadlineExceeded, InferenceError, Overloaded, Unavailable
from service.types import Matrix, TwoPartRow

Rows = Sequence[Sequence[int]]


class Runtime:
    """Answers each row with (its first id, its length); remembers what it ran, and can be held back."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.free = threading.Event()
        self.free.set()
        self.poison: int | None = None
        self.pause = 0.0  # seconds that a batch takes
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def run(self, rows: Rows) -> Matrix:
        with self._lock:
            self.batches.append([list(row) for row in rows])
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        try:
            assert self.free.wait(20), "nobody let the runtime go on"
            time.sleep(self.pause)
            if self.poison is not None and any(self.poison in row for row in rows):
                raise InferenceError("poisoned")
            return np.array([(row[0], len(row)) for row in rows], dtype=np.float32)
        finally:
            with self._lock:
                self._now -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        self.free.clear()
        try:
            yield
        finally:
            self.free.set()


DEVICES: list[Device[Any]] = []


def device(executors: int) -> Device[Any]:
    """Closed when the test has passed."""
    DEVICES.append(Device(executors))
    return DEVICES[-1]


def batcher(
    runtime: Runtime,
    *,
    executors: int = 1,
    budget: int = 64,
    queue: int = 10_000,
    seconds: float = math.inf,
    cache: Cache | None = None,
) -> Batcher:
    return Batcher(
        runtime.run,
        model="test",
        device=device(executors),
        max_batch_tokens=budget,
        max_queue_tokens=queue,
        max_queue_seconds=seconds,
        cache=cache,
        cache_scope=b"scope",
    )


def on_a_loop(test: Callable[[Runtime], Awaitable[None]]) -> Runtime:
    runtime = Runtime()

    async def run() -> None:
        DEVICES.clear()
        await asyncio.wait_for(test(runtime), 30)
        for one in DEVICES:
            one.close()

    asyncio.run(run())
    return runtime


async def started(runtime: Runtime, batches: int = 1) -> None:
    while len(runtime.batches) < batches:  # noqa: ASYNC110 - the batches are started by other threads
        await asyncio.sleep(0.001)


def sample(name: str) -> float:
    """What the metrics say."""
    return metrics.REGISTRY.get_sample_value(f"embedserve_{name}", {"model": "test"}) or 0.0


def firsts(runtime: Runtime) -> list[int]:
    """The first id of every row that ran, in order."""
    return [one[0] for rows in runtime.batches for one in rows]


def row(first: int, length: int = 4) -> list[int]:
    return [first, *([0] * (length - 1))]


def test_vectors_come_back_in_the_order_of_the_rows_whatever_was_packed_together() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, executors=2)
        lengths = [3, 40, 5, 17, 64, 1, 80, 4]
        requests = [[row(100 * r + i, length) for i, length in enumerate(lengths)] for r in range(20)]
        answers = await asyncio.gather(*(mine.submit(rows) for rows in requests))
        for rows, outcome in zip(requests, answers, strict=True):
            assert [one.tolist() for one in outcome.results] == [[one[0], len(one)] for one in rows]
        await mine.close()

    runtime = on_a_loop(test)
    assert all(len(rows) == 1 or len(rows) * max(map(len, rows)) <= 64 for rows in runtime.batches)


def test_every_executor_gets_a_batch_and_a_full_one_lies_ready_for_each() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, executors=2, budget=8)
        with runtime.held():
            requests = [asyncio.create_task(mine.submit([row(i, 8)])) for i in range(10)]
            await started(runtime, 2)
        await asyncio.gather(*requests)

    assert on_a_loop(test).most_at_once == 2


def test_a_batch_beside_which_nothing_runs_or_waits_may_use_the_whole_machine() -> None:
    """The first of three executors' worth of work is not alone, nor is what comes while it runs."""
    lone = Runtime()

    async def test(runtime: Runtime) -> None:
        mine = Batcher(runtime.run, lone.run, model="test", device=device(2), max_batch_tokens=8, max_queue_tokens=1000)
        await mine.submit([row(1, 8)])
        assert (runtime.batches, lone.batches) == ([], [[row(1, 8)]])
        await mine.submit([row(n, 8) for n in (2, 3, 4)])
        assert {one[0][0] for one in runtime.batches} >= {2, 3}
        with lone.held():
            first = asyncio.create_task(mine.submit([row(5, 8)]))
            await started(lone, len(lone.batches) + 1)
            (beside,) = (await mine.submit([row(6, 8)])).results
            assert beside.tolist() == [6, 8]
            assert runtime.batches[-1] == [row(6, 8)]
        await first
        await mine.close()

    on_a_loop(test)


def test_a_lone_batch_that_fails_is_halved_as_any_other() -> None:
    lone = Runtime()
    lone.poison = 7

    async def test(runtime: Runtime) -> None:
        runtime.poison = 7
        mine = Batcher(
            runtime.run, lone.run, model="test", device=device(2), max_batch_tokens=64, max_queue_tokens=1000
        )
        good, bad = await asyncio.gather(mine.submit([row(1)]), mine.submit([row(7)]), return_exceptions=True)
        assert isinstance(good, Outcome)
        assert isinstance(bad, InferenceError)

    on_a_loop(test)


def test_requests_of_one_turn_of_the_loop_share_a_batch() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        await asyncio.gather(*(mine.submit([row(i)]) for i in range(10)))

    assert [len(rows) for rows in on_a_loop(test).batches] == [10]


def test_an_idle_runtime_starts_at_once_and_a_busy_one_gathers() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        with runtime.held():
            first = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            rest = [asyncio.create_task(mine.submit([row(i)])) for i in range(1, 6)]
            await asyncio.sleep(0.01)
            assert len(runtime.batches) == 1
        await asyncio.gather(first, *rest)

    assert [len(rows) for rows in on_a_loop(test).batches] == [1, 5]


def test_a_full_queue_refuses_with_a_time_to_retry_and_then_recovers() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, queue=100)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            waiting = asyncio.create_task(mine.submit([row(1, 63)]))
            await asyncio.sleep(0)
            with pytest.raises(Overloaded) as refused:
                await mine.submit([row(2, 50)])
            assert 1 <= refused.value.retry_after <= 60
        await asyncio.gather(running, waiting)
        assert [one.tolist() for one in (await mine.submit([row(2, 50)])).results] == [[2, 50]]

    on_a_loop(test)


def test_a_request_larger_than_the_whole_queue_is_taken_when_nothing_waits() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, queue=10)
        assert len((await mine.submit([row(i, 20) for i in range(5)])).results) == 5

    on_a_loop(test)


def test_a_deadline_drops_what_has_not_run() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            with pytest.raises(DeadlineExceeded):
                await mine.submit([row(7)], deadline=asyncio.get_running_loop().time() + 0.01)
        await running
        await mine.submit([row(1)])

    assert 7 not in [one[0] for rows in on_a_loop(test).batches for one in rows]


def test_a_caller_that_goes_away_is_dropped_unrun_and_makes_room() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, queue=60)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            gone = asyncio.create_task(mine.submit([row(7, 25), row(8, 25)]))
            await asyncio.sleep(0.01)
            gone.cancel()
            with pytest.raises(asyncio.CancelledError):
                await gone
            follower = asyncio.create_task(mine.submit([row(9, 50)]))
            await asyncio.sleep(0.01)
        await asyncio.gather(running, follower)

    assert [one[0] for rows in on_a_loop(test).batches for one in rows] == [0, 9]


def test_only_the_guilty_request_of_a_failing_batch_fails() -> None:
    async def test(runtime: Runtime) -> None:
        runtime.poison = 13
        mine = batcher(runtime)
        answers = await asyncio.gather(*(mine.submit([row(i)]) for i in range(10, 18)), return_exceptions=True)
        for number, answer in zip(range(10, 18), answers, strict=True):
            if number == 13:
                assert isinstance(answer, InferenceError)
            else:
                assert isinstance(answer, Outcome)
                assert [one.tolist() for one in answer.results] == [[number, 4]]
        await mine.close()

    on_a_loop(test)


def test_other_rows_of_a_failed_request_are_not_run_for_nothing() -> None:
    async def test(runtime: Runtime) -> None:
        runtime.poison = 13
        mine = batcher(runtime, budget=8)
        with pytest.raises(InferenceError):
            await mine.submit([row(13, 8), *(row(i, 8) for i in range(100, 200))])
        await mine.close()

    assert len(on_a_loop(test).batches) < 10


def test_what_a_runtime_raises_is_an_inference_error_to_the_caller() -> None:
    async def test(runtime: Runtime) -> None:
        def broken(rows: Rows) -> Matrix:
            raise MemoryError("no room")

        mine = Batcher(broken, model="test", device=device(1), max_batch_tokens=8, max_queue_tokens=100)
        with pytest.raises(InferenceError) as failed:
            await mine.submit([row(1)])
        assert failed.value.detail == "MemoryError: no room"
        assert "no room" not in str(failed.value)
        await mine.close()

    on_a_loop(test)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_what_fails_once_fails_nobody(count: int) -> None:
    async def test(runtime: Runtime) -> None:
        faults = [MemoryError("no room")]

        def run(rows: Rows) -> Matrix:
            if faults:
                raise faults.pop()
            return runtime.run(rows)

        mine = Batcher(run, model="test", device=device(1), max_batch_tokens=64, max_queue_tokens=1000)
        before = sample("failed_batches_total")
        answers = await asyncio.gather(*(mine.submit([row(i)]) for i in range(count)))
        assert [one.results[0].tolist() for one in answers] == [[i, 4] for i in range(count)]
        assert sample("failed_batches_total") == before + 1
        await mine.close()

    on_a_loop(test)


def test_rows_that_an_error_names_fail_at_once_and_the_others_run_together() -> None:
    async def test(runtime: Runtime) -> None:
        def run(rows: Rows) -> Matrix:
            results = runtime.run(rows)
            if bad := tuple(place for place, one in enumerate(rows) if one[0] in (3, 5)):
                raise BadVectors("the model gave a vector that is zero", bad)
            return results

        mine = Batcher(run, model="test", device=device(1), max_batch_tokens=64, max_queue_tokens=1000)
        answers = await asyncio.gather(*(mine.submit([row(i)]) for i in range(8)), return_exceptions=True)
        bad = [i for i, one in enumerate(answers) if isinstance(one, BadVectors)]
        assert bad == [3, 5]
        good = [(i, one) for i, one in enumerate(answers) if isinstance(one, Outcome)]
        assert [(i, one.results[0].tolist()) for i, one in good] == [(i, [i, 4]) for i in (0, 1, 2, 4, 6, 7)]
        await mine.close()

    assert [len(batch) for batch in on_a_loop(test).batches] == [8, 6]


def test_a_runtime_fails_when_it_fails_on_what_is_known_to_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is asked of the runtime and not of the cache; and until it works again, though nobody else asks."""
    monkeypatch.setattr("service.vitals.PAUSE", 0.001)

    async def test(runtime: Runtime) -> None:
        async def until(failing: bool) -> None:
            while (mine.failing_for() is not None) is not failing:  # noqa: ASYNC110 - others change it
                await asyncio.sleep(0.001)

        known = row(1)
        mine = Batcher(
            runtime.run,
            model="test",
            device=device(1),
            max_batch_tokens=64,
            max_queue_tokens=1000,
            cache=Cache(10_000),
            probe=known,
        )
        await mine.submit([known])
        runtime.poison = 13
        for _ in range(20):
            with pytest.raises(InferenceError):
                await mine.submit([row(13)])
            assert mine.failing_for() is None  # that text's own fault
        assert firsts(runtime).count(1) > 1
        runtime.poison = 0  # the others' ids are filled up with it, and so is the known row
        with pytest.raises(InferenceError):
            await mine.submit([row(14)])
        await until(True)
        runtime.poison = None
        await until(False)
        await mine.close()

    on_a_loop(test)


def test_closing_finishes_what_is_queued_and_refuses_what_comes_after() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=4)
        with runtime.held():
            requests = [asyncio.create_task(mine.submit([row(i)])) for i in range(5)]
            await started(runtime)
            closing = asyncio.create_task(mine.close())
            await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await mine.submit([row(9)])
        await closing
        assert [task.result().results[0][0] for task in requests] == [0, 1, 2, 3, 4]

    on_a_loop(test)


def test_a_failure_after_closing_leaves_nothing_behind_that_runs() -> None:
    """Nothing can be asked any more whether the runtime works, so nobody is to go on asking."""

    async def test(runtime: Runtime) -> None:
        before = asyncio.all_tasks()
        runtime.poison = 13
        mine = Batcher(
            runtime.run, model="test", device=device(1), max_batch_tokens=64, max_queue_tokens=1000, probe=row(1)
        )
        with runtime.held():
            request = asyncio.create_task(mine.submit([row(13)]))
            await started(runtime)
            closing = asyncio.create_task(mine.close())
            await asyncio.sleep(0)
        await closing
        with pytest.raises(InferenceError):
            await request
        assert asyncio.all_tasks() == before

    on_a_loop(test)


def test_a_short_request_waits_for_the_batch_that_runs_and_not_for_the_document_behind_it() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            document = asyncio.create_task(mine.submit([row(100 + i, 8) for i in range(50)]))
            await started(runtime)
            short = [asyncio.create_task(mine.submit([row(i)])) for i in range(2)]
            await started(runtime, 2)
        await asyncio.gather(document, *short)

    assert [one[0] for rows in on_a_loop(test).batches[:2] for one in rows] == [100, 0, 1]


def test_a_short_request_is_answered_while_a_document_keeps_every_executor() -> None:
    async def test(runtime: Runtime) -> None:
        let_go = threading.Event()

        def run(rows: Rows) -> Matrix:
            assert rows[0][0] < 100 or let_go.wait(20), "nobody let the document go on"
            return runtime.run(rows)

        mine = Batcher(run, model="test", device=device(2), max_batch_tokens=8, max_queue_tokens=1000)
        document = asyncio.create_task(mine.submit([row(100 + i, 8) for i in range(50)]))
        await asyncio.sleep(0.01)
        for i in range(2):
            assert [one.tolist() for one in (await mine.submit([row(i)])).results] == [[i, 4]]
        assert not document.done()
        let_go.set()
        assert len((await document).results) == 50
        await mine.close()

    on_a_loop(test)


def test_a_document_goes_on_beside_short_requests_without_end() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        document = asyncio.create_task(mine.submit([row(100 + i, 8) for i in range(20)]))

        async def short_requests(number: int) -> None:
            while not document.done():
                await mine.submit([row(number)])

        await asyncio.gather(document, *(short_requests(number) for number in range(8)))
        await mine.close()

    order = [rows[0][0] for rows in on_a_loop(test).batches]
    assert 100 + 19 in order
    assert sum(first < 100 for first in order) >= 10  # and they went on beside it


@pytest.mark.parametrize(("rows_of_one", "batches"), [(1, 2), (10, 1)])
def test_only_batches_of_short_requests_lie_ready(rows_of_one: int, batches: int) -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            requests = [
                asyncio.create_task(mine.submit([row(first + i, 8) for i in range(rows_of_one)]))
                for first in range(0, 10, rows_of_one)
            ]
            await started(runtime)
            assert sample("running_batches") == batches
        await asyncio.gather(*requests)

    on_a_loop(test)


def test_documents_do_not_fill_the_queue_for_short_requests() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8, queue=100)
        with runtime.held():
            documents = [asyncio.create_task(mine.submit([row(i, 8) for i in range(12)]))]
            await started(runtime)
            with pytest.raises(Overloaded):
                await mine.submit([row(100 + i, 8) for i in range(12)])
            short = [asyncio.create_task(mine.submit([row(200 + i, 8)])) for i in range(12)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await mine.submit([row(300, 8)])
        await asyncio.gather(*documents, *short)

    on_a_loop(test)


def test_a_request_costs_its_rows_as_long_as_the_longest_of_their_batch() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        before = sample("computed_tokens_total")
        outcomes = await asyncio.gather(mine.submit([row(1, 9), row(2, 8)]), mine.submit([row(3, 10)]))
        assert [one.computed_tokens for one in outcomes] == [20, 10]
        more = await asyncio.gather(*(mine.submit([row(i, 1 + i), row(i, 60 - i)]) for i in range(40)))
        assert sum(one.computed_tokens for one in [*outcomes, *more]) == sample("computed_tokens_total") - before

    on_a_loop(test)


def test_a_batch_that_does_not_end_is_seen() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        assert mine.stalled_for() == 0
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            await asyncio.sleep(0.02)
            assert mine.stalled_for() >= 0.02
        await running
        assert mine.stalled_for() == 0

    on_a_loop(test)


# --- rows that are alike ------------------------------------------------------------------------------------------


def test_rows_of_the_same_ids_in_other_parts_are_not_alike() -> None:
    async def test(runtime: Runtime) -> None:
        rows = [[1, 2, 3], TwoPartRow([1, 2, 3], 1), TwoPartRow([1, 2, 3], 2), TwoPartRow([1, 2, 3], 2)]
        await batcher(runtime).submit(rows)

    (batch,) = on_a_loop(test).batches
    assert batch == [[1, 2, 3]] * 3


def test_rows_that_are_alike_run_once_for_all_who_ask_while_they_wait_or_run() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        before = sample("deduplicated_rows_total")
        with runtime.held():
            requests = [asyncio.create_task(mine.submit([row(1)]))]
            await started(runtime)
            requests += [asyncio.create_task(mine.submit([row(1), row(2), row(2, 5), row(2)])) for _ in range(3)]
            await asyncio.sleep(0.01)
        first, *others = await asyncio.gather(*requests)
        assert [one.tolist() for one in first.results] == [[1, 4]]
        for other in others:
            assert [one.tolist() for one in other.results] == [[1, 4], [2, 4], [2, 5], [2, 4]]
        assert sample("deduplicated_rows_total") - before == 3 * 4 - 2
        assert len((await mine.submit([row(1)])).results) == 1  # what is done is not kept
        await mine.close()

    assert firsts(on_a_loop(test)) == [1, 2, 2, 1]


def test_the_first_who_asked_and_still_waits_is_charged() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        before = sample("computed_tokens_total")
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            gone, second, third = (asyncio.create_task(mine.submit([row(1, 10), row(1, 10)])) for _ in range(3))
            await asyncio.sleep(0.01)
            gone.cancel()
            await asyncio.sleep(0.01)
        outcomes = await asyncio.gather(running, second, third)
        assert [one.computed_tokens for one in outcomes] == [4, 10, 0]
        assert sample("computed_tokens_total") - before == 14

    on_a_loop(test)


def test_results_that_several_hold_cannot_be_written_to() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        mine_too, yours = await asyncio.gather(mine.submit([row(1)]), mine.submit([row(1)]))
        for outcome in (mine_too, yours):
            with pytest.raises(ValueError, match="read-only"):
                outcome.results[0][0] = 7

    on_a_loop(test)


@pytest.mark.parametrize("leaves", [0, 1])
def test_a_row_is_dropped_only_when_nobody_asks_for_it_any_more(leaves: int) -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            both = [asyncio.create_task(mine.submit([row(7), row(8 + number)])) for number in range(2)]
            await asyncio.sleep(0.01)
            both[leaves].cancel()
            await asyncio.sleep(0.01)
            assert sample("queue_entries") == 2
        await running
        stays = await both[1 - leaves]
        assert [one.tolist() for one in stays.results] == [[7, 4], [9 - leaves, 4]]

    assert firsts(on_a_loop(test)) == [0, 7, 9 - leaves]


def test_the_last_who_leaves_takes_the_row_away_and_the_next_who_asks_brings_a_new_one() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)

        async def in_vain() -> None:
            with pytest.raises(DeadlineExceeded):
                await mine.submit([row(7)], deadline=asyncio.get_running_loop().time() + 0.01)

        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            await asyncio.gather(in_vain(), in_vain())
            assert sample("queue_entries") == 0
            again = asyncio.create_task(mine.submit([row(7)]))
            await asyncio.sleep(0.01)
        await running
        assert [one.tolist() for one in (await again).results] == [[7, 4]]
        await mine.close()

    assert firsts(on_a_loop(test)) == [0, 7]


def test_one_who_asks_for_what_runs_for_somebody_gone_gets_its_result() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime)
        with runtime.held():
            gone = asyncio.create_task(mine.submit([row(7)]))
            await started(runtime)
            gone.cancel()
            await asyncio.sleep(0.01)
            late = asyncio.create_task(mine.submit([row(7)]))
            await asyncio.sleep(0.01)
        outcome = await late
        assert [one.tolist() for one in outcome.results] == [[7, 4]]
        assert outcome.computed_tokens == 4
        await mine.close()

    assert firsts(on_a_loop(test)) == [7]


def test_a_short_request_does_not_wait_for_the_document_that_asks_for_its_row_too() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            document = asyncio.create_task(mine.submit([row(100 + i, 8) for i in range(50)]))
            await started(runtime)
            short = asyncio.create_task(mine.submit([row(149, 8)]))
            await asyncio.sleep(0.01)
        assert [one.tolist() for one in (await short).results] == [[149, 8]]
        assert not document.done()
        assert [one[0] for one in (await document).results] == [100 + i for i in range(50)]
        await mine.close()

    order = firsts(on_a_loop(test))
    assert order[1] == 149
    assert sorted(order) == [100 + i for i in range(50)]


def test_a_guilty_row_fails_all_who_asked_for_it_and_only_them() -> None:
    async def test(runtime: Runtime) -> None:
        runtime.poison = 13
        mine = batcher(runtime)
        innocent = [asyncio.create_task(mine.submit([row(i), row(20)])) for i in (10, 11)]
        guilty = [asyncio.create_task(mine.submit([row(i), row(13)])) for i in (10, 12)]
        answers = await asyncio.gather(*innocent, *guilty, return_exceptions=True)
        for number, answer in zip((10, 11), answers, strict=False):
            assert isinstance(answer, Outcome)
            assert [one.tolist() for one in answer.results] == [[number, 4], [20, 4]]
        failures = answers[2:]
        assert all(isinstance(one, InferenceError) and one.detail == "poisoned" for one in failures)
        assert failures[0] is not failures[1]
        runtime.poison = None  # and nothing of it is left
        assert [one.tolist() for one in (await mine.submit([row(13)])).results] == [[13, 4]]
        await mine.close()

    on_a_loop(test)


def test_what_waits_for_others_is_asked_for_beside_a_full_queue() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, queue=10)
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(0)]))
            await started(runtime)
            waiting = asyncio.create_task(mine.submit([row(1, 10)]))
            await asyncio.sleep(0.01)
            with pytest.raises(Overloaded):
                await mine.submit([row(2, 1), row(1, 10)])
            too = asyncio.create_task(mine.submit([row(1, 10), row(0)]))
            await asyncio.sleep(0.01)
        assert [[one.tolist() for one in (await task).results] for task in (running, waiting, too)] == [
            [[0, 4]],
            [[1, 10]],
            [[1, 10], [0, 4]],
        ]

    on_a_loop(test)


# --- the cache ----------------------------------------------------------------------------------------------------


def test_what_was_computed_comes_from_the_cache_even_beside_a_full_queue() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, queue=10, cache=Cache(10**6))
        hits, misses = sample("cache_hits_total"), sample("cache_misses_total")
        await mine.submit([row(1), row(2)])
        with runtime.held():
            running = asyncio.create_task(mine.submit([row(3)]))
            await started(runtime, 2)
            waiting = asyncio.create_task(mine.submit([row(4, 10)]))
            await asyncio.sleep(0.01)
            outcome = await mine.submit([row(2), row(1), row(2)])
            assert [one.tolist() for one in outcome.results] == [[2, 4], [1, 4], [2, 4]]
            assert outcome.computed_tokens == 0
            with pytest.raises(Overloaded):
                await mine.submit([row(1), row(5)])
            with pytest.raises(ValueError, match="read-only"):
                outcome.results[0][0] = 7
        await asyncio.gather(running, waiting)
        partly = await mine.submit([row(6, 2), row(1)])
        assert [one.tolist() for one in partly.results] == [[6, 2], [1, 4]]
        assert partly.computed_tokens == 2
        assert (sample("cache_hits_total") - hits, sample("cache_misses_total") - misses) == (3 + 1 + 1, 2 + 2 + 1 + 1)
        await mine.close()
        with pytest.raises(Unavailable):
            await mine.submit([row(1)])

    assert firsts(on_a_loop(test)) == [1, 2, 3, 4, 6]


def test_failures_and_other_scopes_do_not_get_into_the_cache() -> None:
    async def test(runtime: Runtime) -> None:
        cache = Cache(10**6)
        mine = batcher(runtime, cache=cache)
        runtime.poison = 13
        with pytest.raises(InferenceError):
            await mine.submit([row(13)])
        assert len(cache) == 0
        await mine.submit([row(1)])
        other = Batcher(
            lambda rows: -runtime.run(rows),
            model="o",
            device=device(1),
            max_batch_tokens=64,
            max_queue_tokens=100,
            cache=cache,
            cache_scope=b"other",
        )
        assert [one.tolist() for one in (await other.submit([row(1)])).results] == [[-1, -4]]
        assert len(cache) == 2
        await mine.close()
        await other.close()

    on_a_loop(test)


def test_what_has_to_go_is_counted_and_computed_again() -> None:
    async def test(runtime: Runtime) -> None:
        cache = Cache(10**6)
        mine = batcher(runtime, cache=cache)
        await mine.submit([row(1)])
        small = Cache(cache.size)  # room for one
        mine = batcher(runtime, cache=small)
        before = sample("cache_evictions_total")
        for first in (1, 2, 1, 1):
            assert [one.tolist() for one in (await mine.submit([row(first)])).results] == [[first, 4]]
        assert sample("cache_evictions_total") - before == 2
        await mine.close()

    assert firsts(on_a_loop(test)) == [1, 1, 2, 1]


def test_idle_time_behind_work_that_came_to_nothing_is_not_taken_for_slowness() -> None:
    async def test(runtime: Runtime) -> None:
        runtime.poison = 7
        mine = batcher(runtime, budget=4, seconds=5.0)
        with runtime.held():
            first = asyncio.create_task(mine.submit([row(1)]))
            await started(runtime)
            bad = [asyncio.create_task(mine.submit([[7, 7, 7, i]])) for i in range(5)]
            await asyncio.sleep(0)
        await first  # while others wait
        assert all(isinstance(one, InferenceError) for one in await asyncio.gather(*bad, return_exceptions=True))
        await asyncio.sleep(0.5)
        await mine.submit([row(2)])
        many = [mine.submit([row(i)]) for i in range(10, 60)]
        assert len(await asyncio.gather(*many)) == 50

    on_a_loop(test)


def test_a_rate_that_was_measured_far_too_low_is_measured_anew_while_requests_are_refused_for_it() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, seconds=5.0)
        mine._admission.throughput.waits(0.0)
        mine._admission.throughput.computed(1, 100.0, 0.0, 100.0)
        mine._admission.throughput.rests(100.0)

        async def stubborn(number: int) -> bool:
            """One that asks again soon until it is let in; whether it ever was."""
            for _ in range(3_000):
                try:
                    await mine.submit([row(number)])
                except Overloaded:
                    await asyncio.sleep(0.001)
                else:
                    return True
            return False

        runtime.pause = 0.002
        for begin in range(0, 1_000, 50):
            assert all(await asyncio.gather(*[stubborn(begin + i) for i in range(50)]))
        assert len(await asyncio.gather(*[mine.submit([row(i)]) for i in range(2_000, 2_050)])) == 50

    on_a_loop(test)
