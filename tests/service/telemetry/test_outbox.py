"""What waits to be sent is bounded, sent in batches and in order, and never waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import pytest

from service.telemetry.outbox import Outbox
from tests.e2e.process import wait_until

NEVER = 3600.0  # seconds


class Collector:
    """Takes what it is sent, once it may."""

    def __init__(self) -> None:
        self.messages: list[list[int]] = []
        self.is_open = threading.Event()
        self.takes = True

    def send(self, items: Sequence[int]) -> int:
        self.is_open.wait()
        self.messages.append(list(items))
        return sum(items) if self.takes else 0


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.is_open.set()  # or a thread would wait for ever


def outbox(collector: Collector, room: int = 100, batch: int = 10, delay: float = NEVER) -> Outbox[int]:
    """Of numbers, each of which is as large as it says."""
    return Outbox(collector.send, lambda one: one, room, batch, delay)


def test_what_is_enough_goes_at_once(collector: Collector) -> None:
    collector.is_open.set()
    box = outbox(collector)
    for _ in range(10):
        box.put(1)
    wait_until(lambda: box.sent == 10, "all of them sent")
    box.put(1)
    assert box.waiting == 1
    box.close(60)
    assert collector.messages[-1] == [1]


def test_what_is_too_little_goes_after_a_while(collector: Collector) -> None:
    collector.is_open.set()
    box = outbox(collector, delay=0.01)
    box.put(3)
    wait_until(lambda: box.sent == 3, "it was sent")


def test_a_message_holds_no_more_than_it_may_unless_one_is_larger(collector: Collector) -> None:
    box = outbox(collector)
    for size in (4, 4, 4, 25, 1):
        box.put(size)
    collector.is_open.set()
    box.close(60)
    assert collector.messages == [[4, 4], [4], [25], [1]]
    assert box.waiting == 0


def test_beyond_its_room_it_takes_nothing_and_counts(collector: Collector) -> None:
    box = outbox(collector, room=20, batch=5)
    for _ in range(100):
        box.put(1)
    assert box.waiting <= 20
    assert box.dropped >= 100 - 20 - 5  # five may be on their way
    collector.is_open.set()
    box.close(60)
    assert box.sent + box.dropped == 100


def test_one_larger_than_the_room_is_taken_where_nothing_waits(collector: Collector) -> None:
    """It could never be sent otherwise."""
    box = outbox(collector, room=1)
    assert box.put(5)
    assert not box.put(5)
    collector.is_open.set()
    box.close(60)
    assert (box.sent, box.dropped, box.unsent) == (5, 5, 0)


def test_what_is_not_taken_is_counted_and_the_next_is_tried(collector: Collector) -> None:
    collector.is_open.set()
    collector.takes = False
    box = outbox(collector)
    box.put(10)
    wait_until(lambda: box.failed == 10, "it failed")
    collector.takes = True
    box.put(10)
    wait_until(lambda: box.sent == 10, "the next was sent")


def test_the_end_does_not_wait_for_ever(collector: Collector) -> None:
    box = outbox(collector)
    box.put(2)
    box.close(0.01)
    assert box.sent == box.failed == 0
    box.put(2)
    assert box.dropped == 2
