"""The queue: batching, its limit, deadlines, cancellation, faults. The runtime is a function of the test's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest

from service import metrics
from service.batcher import Batcher, Outcome
from service.errors import DeadlineExceeded, InferenceError, Overloaded, Unavailable
from service.types import Matrix

Rows = Sequence[Sequence[int]]


class Runtime:
    """Answers each row with (its first id, its length); remembers what it ran, and can be held back."""

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.free = threading.Event()
        self.free.set()
        self.poison: int | None = None
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


def batcher(runtime: Runtime, *, executors: int = 1, budget: int = 64, queue: int = 10_000) -> Batcher:
    return Batcher(runtime.run, model="test", executors=executors, max_batch_tokens=budget, max_queue_tokens=queue)


def on_a_loop(test: Callable[[Runtime], Awaitable[None]]) -> Runtime:
    runtime = Runtime()
    asyncio.run(asyncio.wait_for(test(runtime), 30))
    return runtime


async def started(runtime: Runtime, batches: int = 1) -> None:
    while len(runtime.batches) < batches:  # noqa: ASYNC110 - the batches are started by other threads
        await asyncio.sleep(0.001)


def sample(name: str) -> float:
    """What the metrics say."""
    return metrics.REGISTRY.get_sample_value(f"embedserve_{name}", {"model": "test"}) or 0.0


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

        mine = Batcher(broken, model="test", executors=1, max_batch_tokens=8, max_queue_tokens=100)
        with pytest.raises(InferenceError) as failed:
            await mine.submit([row(1)])
        assert failed.value.detail == "MemoryError: no room"
        assert "no room" not in str(failed.value)
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


def test_a_short_request_waits_for_the_batch_that_runs_and_not_for_the_document_behind_it() -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            document = asyncio.create_task(mine.submit([row(100 + i, 8) for i in range(50)]))
            await started(runtime)
            short = [asyncio.create_task(mine.submit([row(i)])) for i in range(2)]
            await asyncio.sleep(0.01)
        await asyncio.gather(document, *short)

    assert [one[0] for rows in on_a_loop(test).batches[:2] for one in rows] == [100, 0, 1]


def test_a_short_request_is_answered_while_a_document_keeps_every_executor() -> None:
    async def test(runtime: Runtime) -> None:
        let_go = threading.Event()

        def run(rows: Rows) -> Matrix:
            assert rows[0][0] < 100 or let_go.wait(20), "nobody let the document go on"
            return runtime.run(rows)

        mine = Batcher(run, model="test", executors=2, max_batch_tokens=8, max_queue_tokens=1000)
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

        async def short_requests() -> None:
            while not document.done():
                await mine.submit([row(1)])

        await asyncio.gather(document, *(short_requests() for _ in range(8)))
        await mine.close()

    order = [rows[0][0] for rows in on_a_loop(test).batches]
    assert 100 + 19 in order
    assert order.count(1) >= 10  # and they went on beside it


@pytest.mark.parametrize(("rows_of_one", "batches"), [(1, 2), (10, 1)])
def test_only_batches_of_short_requests_lie_ready(rows_of_one: int, batches: int) -> None:
    async def test(runtime: Runtime) -> None:
        mine = batcher(runtime, budget=8)
        with runtime.held():
            requests = [
                asyncio.create_task(mine.submit([row(i, 8) for i in range(rows_of_one)]))
                for _ in range(10 // rows_of_one)
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
                await mine.submit([row(i, 8) for i in range(12)])
            short = [asyncio.create_task(mine.submit([row(i, 8)])) for i in range(12)]
            await asyncio.sleep(0)
            with pytest.raises(Overloaded):
                await mine.submit([row(2, 8)])
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
