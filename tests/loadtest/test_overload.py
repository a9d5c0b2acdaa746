"""The benchmark of overload: what it makes of what it saw, and that its load really does not wait for answers."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from loadtest.command import MeasurementError
from loadtest.flood import Flood, Flooded, Honest, Plan, Sent
from loadtest.local import free_port
from loadtest.overload import Burst
from tests.conftest import StartServer
from tests.e2e.process import full_windows

CALM = [Sent(i / 10, 0.05, 200) for i in range(10)]
# Each second 10 are let in, which wait for a second, and 90 refused, who are told 1 s.
SERVED = [Sent(1 + i / 10, 1.0, 200) for i in range(100)]
REFUSED = [Sent(1 + i / 90, 0.01, 429, 1.0, 1.0) for i in range(900)]
AFTER = [Sent(11 + i / 10, 0.9 if i < 5 else 0.05, 200) for i in range(50)]
HONEST = [Honest(2, 1.5, 200, [1.0])]


def burst(*sent: Sent) -> Burst:
    return Burst(1.0, 11.0, Flooded([*CALM, *SERVED, *REFUSED, *AFTER, *sent], HONEST))


def values(of: Burst, capacity: float = 10.0) -> dict[str, float]:
    return {one.name: one.value for one in of.figures(capacity, [100.0, 150.0, 120.0], 0.2)}


def test_what_is_said_of_a_burst() -> None:
    found = values(burst())
    assert found["goodput ÷ peak"] == pytest.approx(0.9)  # those of its last second were answered after it
    assert found["refused"] == 900
    assert found["refusal p50"] == pytest.approx(10)
    assert found["event loop ÷ requests"] == pytest.approx(0.2e6 / 1060)
    assert found["Retry-After told ÷ true, median"] == pytest.approx(1.0)
    assert found["recovery"] == pytest.approx(0.55)
    assert found["lost"] == 0
    assert found["memory at most"] == 150


def test_a_lost_request_and_a_missing_header_are_seen() -> None:
    found = values(burst(Sent(2, math.inf, 0), Sent(3, 0.1, 504), Sent(4, 0.01, 429)))
    assert found["lost"] == 2
    assert found["refused without Retry-After"] == 1


def test_a_server_that_stays_slow_has_not_recovered() -> None:
    slow = [replace(one, took=1.0) for one in AFTER]
    assert values(Burst(1.0, 11.0, Flooded([*CALM, *SERVED, *REFUSED, *slow], HONEST)))["recovery"] == math.inf


def test_a_server_that_answered_nothing_before_the_burst_cannot_recover() -> None:
    with pytest.raises(MeasurementError, match="before the burst"):
        values(Burst(1.0, 11.0, Flooded([*SERVED, *REFUSED, *AFTER], HONEST)))


def test_without_refusals_it_was_no_overload() -> None:
    with pytest.raises(MeasurementError):
        values(Burst(1.0, 11.0, Flooded([*CALM, *SERVED, *AFTER], HONEST)))


def test_a_flood_does_not_wait_for_answers_and_gets_them_all(start_server: StartServer) -> None:
    server = start_server("--executors", "1", "--max-queue-tokens", "1000", "--max-batch-tokens", "256")
    bodies = [json.dumps({"input": text}) for text in full_windows(100)]
    plan = Plan("127.0.0.1", server.port, "/v1/embeddings", [(0.5, 10), (1.0, 80)], bodies, honest=2, honest_in=1)
    with Flood(plan) as flood:
        found = flood.result()
    assert len(found.sent) == 85
    assert {one.status for one in found.sent} == {200, 429}
    assert all(one.retry_after >= 1 for one in found.sent if one.status == 429)
    assert found.connections > 2
    assert {one.status for one in found.honest} == {200}
    refused = server.metric("embedserve_rejections_total", reason="overloaded")
    assert refused == sum(one.status == 429 for one in found.sent) + sum(one.tries - 1 for one in found.honest)


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a listener who takes two connections, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as one:
        yield one.getsockname()[1]


def test_what_is_never_answered_or_finds_no_connection_is_lost(silent: int) -> None:
    plan = Plan("127.0.0.1", silent, "/v1/embeddings", [(0.5, 10)], ["{}"], patience=1.0)
    with Flood(plan) as flood:
        assert not flood.wait(0.1)
        found = flood.result()
    assert [one.status for one in found.sent] == [0] * 5
    assert all(math.isinf(one.took) for one in found.sent)
    assert max(one.at for one in found.sent) < 0.6  # when they were sent, not when they were given up


def test_honest_clients_who_find_nobody_have_failed() -> None:
    plan = Plan("127.0.0.1", free_port(), "/v1/embeddings", [(1.0, 5)], ["{}"], honest=2, patience=5.0)
    with Flood(plan) as flood:
        found = flood.result()
    assert [one.status for one in found.honest] == [0, 0]
