"""Tokenizers that panic, clocks that jump, logs that cannot be written, signals: the process around the runtime."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import (
    PATIENCE,
    VERTEX_MODEL,
    Server,
    assert_google_error,
    assert_openai_error,
    full_windows,
    run_command,
    wait_until,
)
from tests.faults.conftest import Faulty, StartFaulty

EMBEDDINGS = "/v1/embeddings"
DAY = 86_400
LONG = " and so on" * 1000  # so many characters are tokenised beside the event loop


@pytest.fixture(scope="module")
def shared(launch_faulty: StartFaulty) -> Faulty:
    """For faults that leave nothing behind."""
    return launch_faulty()


@pytest.fixture
def server(shared: Faulty) -> Faulty:
    shared.mend()
    return shared


@contextmanager
def load(server: Server, golden: Golden) -> Iterator[list[httpx.Response]]:
    """Requests by four clients, one after the other each, until the block ends; all replies once it has ended."""
    ends: list[bool] = []
    replies: list[httpx.Response] = []

    def client(number: int) -> None:
        while not ends:
            replies.append(server.post(EMBEDDINGS, {"input": golden.texts[number]}))

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(client, number) for number in range(4)]
        try:
            wait_until(lambda: len(replies) > 4, "the load")
            yield replies
            enough = len(replies) + 8
            wait_until(lambda: len(replies) > enough or any(one.done() for one in clients), "more of the load")
        finally:
            ends.append(True)
        for one in clients:
            one.result()


@pytest.mark.parametrize("kind", ["tokenizer raises", "tokenizer panics"])
def test_a_tokenizer_that_fails_on_a_text_fails_it_alone(server: Faulty, golden: Golden, kind: str) -> None:
    server.fault(kind, word="poison")
    with load(server, golden) as replies:
        for text in ("poison", "poison" + LONG):
            for _ in range(3):  # more often than there are threads
                assert_openai_error(server.post(EMBEDDINGS, {"input": text}), 500, "server_error")
            google = server.post(VERTEX_MODEL, {"instances": [{"content": text}]})
            assert_google_error(google, 500, "INTERNAL")
    assert {one.status_code for one in replies} == {200}
    assert server.embed("a text" + LONG).shape == (1, 384)


def test_a_blocked_event_loop_is_seen_by_a_probe_that_is_not_answered(server: Faulty) -> None:
    server.fault("event loop blocks", word="poison")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(server.post, EMBEDDINGS, {"input": "poison"})

        def is_silent() -> bool:
            try:
                httpx.get(f"{server.url}/livez", timeout=1, trust_env=False)
            except httpx.ReadTimeout:
                return True
            return False

        wait_until(is_silent, "liveness not to answer")
        server.mend()
        assert sent.result().status_code == 200
    assert server.http.get("/livez").status_code == 200


def test_a_clock_that_jumps_fails_nobody(server: Faulty, golden: Golden) -> None:
    with load(server, golden) as replies:
        for jump in (DAY, -DAY):
            server.fault(clock=jump)
            enough = len(replies) + 12
            wait_until(lambda enough=enough: len(replies) > enough, "requests after it")  # type: ignore[misc]
        server.mend()
    assert {one.status_code for one in replies} == {200}
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
    took = [line["ms"] for line in server.logged() if "ms" in line]
    assert all(0 <= one < 1000 * PATIENCE for one in took)


def test_a_process_that_was_stopped_goes_on(server: Faulty, golden: Golden) -> None:
    with load(server, golden) as replies:
        server.signal(signal.SIGSTOP)
        time.sleep(2)  # of the process's time, not of the test's patience
        server.signal(signal.SIGCONT)
    assert {one.status_code for one in replies} == {200}
    assert server.http.get("/livez").status_code == server.http.get("/readyz").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_under_load_loses_nothing_that_was_taken(
    start_server: StartServer, golden: Golden, number: signal.Signals
) -> None:
    """Each client sends one request after the other, until its connection is refused."""
    server = start_server()
    replies: list[httpx.Response] = []
    lost: list[httpx.TransportError] = []

    def client(texts: list[str]) -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as http:
            while True:
                try:
                    replies.append(http.post(EMBEDDINGS, json={"input": texts}))
                except httpx.ConnectError:
                    return  # nothing was taken
                except httpx.TransportError as error:
                    lost.append(error)
                    return

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(client, golden.texts[i : i + 1]) for i in range(8)]
        wait_until(lambda: len(replies) > 16, "the load")
        server.signal(number)
        for one in clients:
            one.result()
    assert lost == []
    assert {one.status_code for one in replies} == {200}
    assert server.wait() == 0


def test_what_was_killed_is_in_nobodys_way(start_server: StartServer, golden: Golden) -> None:
    server = start_server()
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(server.post, EMBEDDINGS, {"input": full_windows(60, 60 * i)}) for i in range(4)]
        wait_until(lambda: server.metric("embedserve_running_batches") > 0, "work")
        server.signal(signal.SIGKILL)
        assert all(isinstance(one.exception(), httpx.TransportError) for one in sent)
    assert server.wait() == -signal.SIGKILL
    start_server(port=str(server.port)).assert_well()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB; skips where none may be mounted."""
    folder = tmp_path / "full"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_in_a_line(full_disk: Path, bundle: Path) -> None:
    """Where a bundle would be compiled; one that is there is served without a cache."""
    done = run_command("compile", "all-MiniLM-L6-v2", "--output", full_disk / "bundle")
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_read_only_cache_serves_what_it_holds(
    start_server: StartServer, full_disk: Path, bundle: Path, golden: Golden
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    server = start_server("--cache-dir", str(full_disk))
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
    done = run_command("serve", "all-MiniLM-L6-v2", "--cache-dir", full_disk)
    assert done.returncode == 1
    assert b"Read-only file system" in done.stderr
    assert b"Traceback" not in done.stderr
