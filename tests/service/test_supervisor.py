"""Which process gets a connection, and when one starts anew. The rest is in tests/e2e/test_processes.py."""

from __future__ import annotations

import random
from typing import Any

from service.channel import READY, WAITING
from service.supervisor import Process, choose, restart_delay


def process(number: int, connections: int = 0, state: bytes = READY, **told: Any) -> Process:
    """One that nobody has started."""
    none: Any = None
    return Process(number, none, none, connections, state, **told)


def test_the_one_with_the_fewest_connections_gets_the_next() -> None:
    few = process(1, 2)
    assert choose([process(0, 3), few, process(2, 4)]) is few


def test_those_that_are_ready_come_before_those_that_are_not() -> None:
    loaded = process(1, 50)
    assert choose([process(0, 0, WAITING), loaded]) is loaded


def test_while_none_is_ready_whoever_listens_answers() -> None:
    listening = process(1, 7, WAITING)
    assert choose([process(0, state=b""), listening, process(2, kill_at=1.0)]) is listening
    assert choose([process(0, state=b""), process(2, kill_at=1.0)]) is None
    assert choose([]) is None


def test_connections_that_come_and_go_stay_even() -> None:
    drawn = random.Random(0)
    processes = [process(number) for number in range(4)]
    for _ in range(10_000):
        one = choose(processes)
        assert one is not None
        one.connections += 1
        if drawn.random() < 0.5:
            max(processes, key=lambda other: other.connections).connections -= 1
    assert max(one.connections for one in processes) - min(one.connections for one in processes) <= 1


def test_one_that_ends_again_and_again_is_started_ever_later() -> None:
    delay, waited = 1.0, []
    for _ in range(7):
        seconds, delay = restart_delay(delay, served=3.0)
        waited.append(seconds)
    assert waited == [1, 2, 4, 8, 16, 30, 30]


def test_one_that_has_served_long_enough_is_started_at_once_and_the_next_time_soon() -> None:
    seconds, delay = restart_delay(30.0, served=61.0)
    assert (seconds, restart_delay(delay, served=0.0)[0]) == (0, 1)
