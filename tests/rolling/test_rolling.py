"""Three replicas behind each proxy: each restarted in turn, then one killed, under steady load.

All proxies stand before the same replicas, so that one round tells of each.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import Server, wait_until
from tests.rolling.load import CLIENTS, Load, steady
from tests.rolling.proxies import HAPROXY, PROXIES, free_port, running

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.long,
    pytest.mark.timeout(400),
    pytest.mark.skipif(not HAPROXY.can_be_had(), reason="needs haproxy: its package, or a Debian to take it from"),
]

REPLICAS = 3
STUCK = 1.5  # seconds after which a request is waiting for a stopped process, and not for a busy one
GRACE = "3"  # seconds; both files ask for readiness every second


class Fleet:
    """The replicas, each on its port, whatever process is there."""

    def __init__(self, launch: StartServer) -> None:
        self._launch = launch
        self.ports = [free_port() for _ in range(REPLICAS)]
        self.servers = [self._start(port) for port in self.ports]
        for one in self.servers:
            one.wait_ready()

    def _start(self, port: int) -> Server:
        return self._launch("--executors", "1", "--drain-grace", GRACE, port=str(port), ready=False)

    def restart(self, number: int) -> int:
        """Its exit status; returns when the next process on its port is ready and has been asked for vectors."""
        old = self.servers[number]
        old.signal(signal.SIGTERM)
        status = old.wait()
        self.servers[number] = self._start(self.ports[number]).wait_ready()
        wait_until(lambda: asked(self.servers[number]) > 0, "requests for the new process")
        return status

    def kill(self, number: int, loads: list[Load]) -> float:
        """When it was dead. It has a request of every load then: they wait for it, as it is stopped first."""
        victim = self.servers[number]
        victim.signal(signal.SIGSTOP)
        wait_until(lambda: min(one.oldest() for one in loads) > STUCK, "requests that wait for the stopped one")
        victim.signal(signal.SIGKILL)
        victim.wait()
        return time.monotonic()


def asked(server: Server) -> float:
    """Requests for vectors that it has answered."""
    return server.metric("embedserve_requests_total", route="/v1/embeddings")


@pytest.fixture(scope="module")
def fleet(launch: StartServer) -> Fleet:
    """For both tests; the second leaves it with one less."""
    return Fleet(launch)


@pytest.fixture(scope="module")
def urls(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Of every proxy, in the order of PROXIES."""
    folder = tmp_path_factory.mktemp("proxies")
    with ExitStack() as stack:
        yield [stack.enter_context(running(one, fleet.ports, Path(folder, str(i)))) for i, one in enumerate(PROXIES)]


def settle(loads: list[Load]) -> None:
    """Until each has had some more answers."""
    goals = [(one, one.answered + 2 * CLIENTS) for one in loads]
    wait_until(lambda: all(one.answered >= goal for one, goal in goals), "answers")


def show(what: str, loads: list[Load]) -> None:
    for proxy, load in zip(PROXIES, loads, strict=True):
        print(f"{what}: {proxy.name}: {load.answered} answered, {len(load.failures)} lost")


def test_restarting_each_replica_in_turn_loses_nothing(fleet: Fleet, urls: list[str], golden: Golden) -> None:
    """Nor does it need retries."""
    with steady(urls, golden) as loads:
        settle(loads)
        statuses = [fleet.restart(number) for number in range(REPLICAS)]
        settle(loads)
    show("restarts", loads)
    assert statuses == [0] * REPLICAS
    assert [one.failures for one in loads] == [[]] * len(PROXIES)


def test_a_killed_replica_costs_what_it_worked_on_and_with_retries_nothing(
    fleet: Fleet, urls: list[str], golden: Golden
) -> None:
    with steady(urls, golden) as loads:
        settle(loads)
        dead = fleet.kill(0, loads)
        settle(loads)
    show("kill", loads)
    for proxy, load in zip(PROXIES, loads, strict=True):
        if proxy.retries:
            assert load.failures == []
        else:
            assert 1 <= len(load.failures) <= CLIENTS
            assert all(sent <= dead for sent, _ in load.failures), load.failures
