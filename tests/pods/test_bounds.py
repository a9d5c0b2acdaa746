"""A pod stays within what it was given: its memory, and the two folders that it may write to."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests.e2e.process import full_windows
from tests.pods import groups
from tests.pods.conftest import Deploy
from tests.pods.deployment import Deployment

pytestmark = [pytest.mark.image, pytest.mark.timeout(400)]

REQUESTS, AT_ONCE = 60, 6
_SHORT = ("cat", "dog", "A sentence of some words, as people ask.")


def bodies(draw: random.Random) -> list[dict[str, object]]:
    """A query, two batches, a long document, and what is too large."""
    windows = full_windows(32, draw.randrange(10_000))
    return [
        {"input": draw.choice(_SHORT)},
        {"input": windows[:8]},
        {"input": windows},
        {"input": "the quick brown fox " * 1_000},
        {"input": "x" * 5_000_000},
    ]


async def mixed_load(url: str) -> list[int]:
    """The statuses of the replies. Three of four requests are queries."""
    draw, room = random.Random(8), asyncio.Semaphore(AT_ONCE)

    async def ask(number: int, http: httpx.AsyncClient) -> int:
        async with room:
            kinds = bodies(draw)
            kind = 0 if number % 4 else number // 4 % len(kinds)
            return (await http.post("/v1/embeddings", json=kinds[kind])).status_code

    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as http:
        return await asyncio.gather(*(ask(number, http) for number in range(REQUESTS)))


@contextmanager
def highest(pid: int) -> Iterator[list[int]]:
    """The most memory that the group of a process held meanwhile, in bytes."""
    seen, stop = [groups.resident(pid)], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            seen[0] = max(seen[0], groups.resident(pid))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def deployment(deploy: Deploy) -> Deployment:
    """One pod."""
    return deploy()


def test_it_stays_below_its_limit_of_memory_under_mixed_load(deployment: Deployment) -> None:
    """The chart's own limit; what is too much is refused, and nothing is killed."""
    server = deployment.pods[0].container()
    pid = server.container.pid
    with highest(pid) as seen:
        statuses = asyncio.run(mixed_load(deployment.service.url))
    print(f"at most {seen[0] / 2**20:.0f} MiB of {groups.memory_limit(pid) / 2**20:.0f}")
    assert seen[0] < groups.memory_limit(pid) == 2**30
    assert groups.killed_for_memory(pid) == 0
    assert server.restarts == 0
    assert {200, 413} <= set(statuses) <= {200, 413, 429}
    assert statuses.count(413) == REQUESTS // 4 // 5


def test_only_tmp_and_the_cache_can_be_written_to(deployment: Deployment) -> None:
    """Beside what the kernel and the container's runtime have for every process."""
    server = deployment.pods[0].container().container
    mounts = groups.writable_mounts(server.pid)
    kernels = {one for one in mounts if one.split("/")[1] in ("dev", "proc", "sys")}
    assert "/" not in mounts
    assert {"/tmp", "/cache"} <= mounts
    assert mounts - kernels == {"/tmp", "/cache"}
    assert server.execute(["python", "-c", "open('/opt/file', 'w')"], 30) == 1
    assert server.execute(["python", "-c", "open('/cache/file', 'w'); open('/tmp/file', 'w')"], 30) == 0


def test_nothing_else_would_be_written_to_if_it_could_be(deploy: Deploy) -> None:
    """The same pod with a root that may be written to, as another user's image of it may be run."""
    deployment = deploy({"securityContext": {"readOnlyRootFilesystem": False}})
    statuses = asyncio.run(mixed_load(deployment.service.url))
    assert 200 in statuses
    assert deployment.pods[0].container().container.changed_files() == set()
