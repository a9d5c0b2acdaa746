"""Several processes on one port: to clients they are one server, and what becomes of one of them is its own affair."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests.certificates import Files, connect, trusts
from tests.conftest import StartServer
from tests.e2e.process import PATIENCE, Raw, Server, full_windows, wait_until

BODY = b'{"input": "a"}'
RESTARTS = "embedserve_process_restarts_total"
TEXTS = ["one", "and another", "the third of them"]


def processes_of(server: Server) -> list[int]:
    """Those that serve, in the order of their numbers."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text("ascii")
    return sorted(map(int, children.split()), key=number_of)


def number_of(pid: int) -> int:
    """As its command line says; it may have just been forked, and so have none of its own."""
    found = re.search(r'"number": (\d+)', Path(f"/proc/{pid}/cmdline").read_text("utf-8"))
    return int(found[1]) if found else -1


def is_there(pid: int) -> bool:
    """Even if only because nobody has waited for it."""
    return Path(f"/proc/{pid}").exists()


def of_each(server: Server, name: str, **labels: str) -> dict[str, float]:
    """A sample's value in each process that answers, summed over the other labels."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                number = sample.labels["process"]
                found[number] = found.get(number, 0.0) + sample.value
    return found


def wait_all_ready(server: Server, count: int = 2) -> Server:
    """Each has loaded the model."""
    wait_until(lambda: list(of_each(server, "embedserve_ready").values()) == [1.0] * count, "all processes to be ready")
    return server


@pytest.fixture(scope="module")
def shared(launch: StartServer) -> Server:
    """Two processes that every test leaves as they were."""
    return wait_all_ready(launch("--processes", "2"))


@pytest.fixture
def several(start_server: StartServer) -> Server:
    """Two processes that a test may end."""
    return wait_all_ready(start_server("--processes", "2", "--stall-timeout", "8"))


@pytest.fixture
def connections(shared: Server) -> Iterator[list[Raw]]:
    with ExitStack() as opened:
        yield [opened.enter_context(Raw(shared.port)) for _ in range(8)]


def test_vectors_are_those_of_one_process_and_connections_are_shared_evenly(
    server: Server, shared: Server, connections: Sequence[Raw]
) -> None:
    shared.http.close()
    shared.http = httpx.Client(base_url=shared.url, timeout=PATIENCE, trust_env=False)
    alone = server.embed(TEXTS)
    before = of_each(shared, "embedserve_requests_total", route="/v1/embeddings")
    for connection in connections:
        connection.post(b'{"input": ["one", "and another", "the third of them"], "encoding_format": "base64"}')
        assert connection.reply()[0] == 200
    after = of_each(shared, "embedserve_requests_total", route="/v1/embeddings")
    assert {number: count - before.get(number, 0) for number, count in after.items()} == {"0": 4.0, "1": 4.0}
    for _ in range(3):
        assert np.array_equal(shared.embed(TEXTS), alone)


def test_a_connection_that_ends_makes_room_for_the_next(shared: Server, connections: Sequence[Raw]) -> None:
    def held() -> dict[str, float]:
        return of_each(shared, "embedserve_connections")

    wait_until(lambda: sum(held().values()) == 9, "eight connections and that of the scrape")
    before = held()
    gone = [one for one in connections if one is not connections[0]]
    for one in gone:
        one.socket.close()
    wait_until(lambda: sum(held().values()) == 2, "seven of them to be gone")
    with ExitStack() as opened:
        for _ in range(7):
            opened.enter_context(Raw(shared.port)).post(BODY)
        wait_until(lambda: sum(held().values()) == 9, "seven new ones")
        assert max(held().values()) - min(held().values()) <= 1, (before, held())


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_metrics_are_those_of_all_processes_each_family_once(shared: Server, accept: str) -> None:
    shared.assert_well()
    text = shared.http.get("/metrics", headers={"accept": accept}).text
    parse = openmetrics_families if "openmetrics" in accept else text_string_to_metric_families
    families = list(parse(text))
    assert len({one.name for one in families}) == len(families)
    for name in ("embedserve_ready", "process_resident_memory_bytes", RESTARTS):
        samples = [one for family in families for one in family.samples if one.name == name]
        assert sorted(one.labels["process"] for one in samples) == ["0", "1"]
    assert all("process" in one.labels for family in families for one in family.samples)


def test_a_process_that_is_killed_is_started_anew_and_takes_no_other_connection_with_it(several: Server) -> None:
    with ExitStack() as opened:
        connections = [opened.enter_context(Raw(several.port)) for _ in range(6)]
        for one in connections:
            one.post(BODY)
            assert one.reply()[0] == 200
        os.kill(processes_of(several)[1], signal.SIGKILL)
        lost = [one for one in connections if not answers(one)]
        assert 2 <= len(lost) <= 4
        wait_until(
            lambda: of_each(several, RESTARTS) == {"0": 0.0, "1": 1.0},
            "another in its place",
        )
        wait_all_ready(several)
        assert sum(answers(one) for one in connections if one not in lost) == 6 - len(lost)
    [line] = [one for one in several.logged() if "is started anew" in one["message"]]
    assert (line["process"], line["status"]) == (1, -signal.SIGKILL)


def answers(connection: Raw) -> bool:
    """Whether the connection is still there, and answered."""
    try:
        connection.post(BODY)
        return connection.reply()[0] == 200
    except OSError:
        return False


def test_a_process_that_is_told_to_end_finishes_and_nothing_is_lost(several: Server) -> None:
    """What an operator may do to one of them, under load."""
    failures: list[str] = []
    is_over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=several.url, timeout=PATIENCE, trust_env=False) as client:
            while not is_over.is_set():
                try:
                    status = client.post("/v1/embeddings", content=BODY).status_code
                except httpx.TransportError as error:
                    failures.append(repr(error))
                else:
                    failures.extend([str(status)] if status != 200 else [])

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        try:
            for number in (0, 1):
                os.kill(processes_of(several)[number], signal.SIGTERM)
                wait_until(lambda: sum(of_each(several, RESTARTS).values()) == number + 1, "another one")  # noqa: B023
                wait_all_ready(several)
        finally:
            is_over.set()
        for one in asking:
            one.result()
    assert failures == []


def test_all_of_them_may_be_killed_and_what_takes_their_place_as_well(several: Server) -> None:
    """It has served: the settings are right, and it goes on."""
    for pid in processes_of(several):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: sorted(map(number_of, processes_of(several))) == [0, 1], "others in their place")
    for pid in processes_of(several):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: "status" in several.stderr() and len(processes_of(several)) == 2, "others again")
    wait_all_ready(several)
    several.assert_well()


def test_a_process_that_says_nothing_any_more_is_killed_and_replaced(several: Server) -> None:
    [_, second] = processes_of(several)
    os.kill(second, signal.SIGSTOP)
    wait_until(lambda: not is_there(second), "the process that hangs to be gone")
    wait_all_ready(several)
    assert of_each(several, RESTARTS) == {"0": 0.0, "1": 1.0}
    assert any("says nothing any more" in one["message"] for one in several.logged())


def test_what_a_process_that_hangs_would_say_is_not_waited_for_long(several: Server) -> None:
    os.kill(processes_of(several)[1], signal.SIGSTOP)
    found: dict[str, float] = {}
    for _ in range(4):  # whoever is asked by the stopped one gets no answer
        try:
            found = {}
            text = httpx.get(f"{several.url}/metrics", timeout=3, trust_env=False).text
        except httpx.ReadTimeout:
            continue
        for family in text_string_to_metric_families(text):
            found |= {one.labels["process"]: one.value for one in family.samples if one.name == "embedserve_ready"}
        break
    assert found == {"0": 1.0}


def test_sigterm_ends_all_of_them_when_their_work_is_done(several: Server) -> None:
    children = processes_of(several)
    with ExitStack() as opened:
        connections = [opened.enter_context(Raw(several.port)) for _ in range(4)]
        for number, one in enumerate(connections):
            texts = ", ".join(f'"{number} {i} {"dog " * 100}"' for i in range(64))
            one.post(f'{{"input": [{texts}]}}'.encode())
        wait_until(lambda: sum(of_each(several, "embedserve_requests_in_flight").values()) >= 5, "all of them at work")
        several.signal(signal.SIGTERM)
        assert [one.reply()[0] for one in connections] == [200] * 4
        assert all(one.closed_by_server() for one in connections)
    assert several.wait() == 0
    assert not any(map(is_there, children))


@pytest.mark.parametrize("grace", ["0", "0.5"])
def test_whoever_has_connected_before_the_end_is_answered(start_server: StartServer, grace: str) -> None:
    server = wait_all_ready(start_server("--processes", "2", "--drain-grace", grace))
    lost: list[str] = []
    enough = threading.Barrier(9)

    def ask() -> None:
        """A connection for each request, until there is nobody any more."""
        for number in range(100_000):
            if number == 10:
                enough.wait(PATIENCE)
            try:
                reply = httpx.post(f"{server.url}/v1/embeddings", content=BODY, timeout=PATIENCE, trust_env=False)
            except httpx.ConnectError:
                return
            except httpx.TransportError as error:
                lost.append(repr(error))
                return
            lost.extend([str(reply.status_code)] if reply.status_code != 200 else [])

    with ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask) for _ in range(8)]
        enough.wait(PATIENCE)
        server.signal(signal.SIGTERM)
        for one in asking:
            one.result()
    assert lost == []
    assert server.wait() == 0


def many(server: Server, opened: ExitStack) -> list[Raw]:
    """More connections than the pairs of sockets hold between this server's processes, each with a request."""
    connections = [opened.enter_context(Raw(server.port)) for _ in range(900)]
    for one in connections:
        one.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return connections


def test_connections_that_nobody_can_take_yet_wait(several: Server) -> None:
    children = processes_of(several)
    with ExitStack() as opened:
        for one in children:
            os.kill(one, signal.SIGSTOP)
        connections = many(several, opened)
        for one in children:
            os.kill(one, signal.SIGCONT)
        assert [one.reply()[0] for one in connections] == [200] * len(connections)


def test_at_the_end_as_well(several: Server) -> None:
    """The kernel holds them all when it comes."""
    with ExitStack() as opened:
        several.signal(signal.SIGSTOP)
        connections = many(several, opened)
        several.signal(signal.SIGTERM)
        several.signal(signal.SIGCONT)
        assert [one.reply()[0] for one in connections] == [200] * len(connections)
    assert several.wait() == 0


def test_what_is_being_finished_may_take_longer_than_a_process_may_be_silent(start_server: StartServer) -> None:
    flags = ("--stall-timeout", "1", "--drain-timeout", "60", "--executors", "1", "--max-batch-tokens", "256")
    server = wait_all_ready(start_server("--processes", "2", *flags))
    texts = full_windows(300)
    with Raw(server.port) as connection:
        connection.post(json.dumps({"input": texts}).encode())
        wait_until(lambda: sum(of_each(server, "embedserve_requests_in_flight").values()) >= 2, "it to be worked on")
        server.signal(signal.SIGTERM)
        assert connection.reply()[0] == 200
    assert server.wait() == 0


def test_a_signal_to_all_of_them_ends_none_before_the_grace_is_over(start_server: StartServer) -> None:
    """As service managers send it to all processes of a service."""
    server = wait_all_ready(start_server("--processes", "2", "--drain-grace", "3"))
    children = processes_of(server)
    for one in children:
        os.kill(one, signal.SIGTERM)
    time.sleep(0.1)  # whoever has it first
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail", patience=2)
    for _ in range(10):
        reply = httpx.post(f"{server.url}/v1/embeddings", content=BODY, timeout=PATIENCE, trust_env=False)
        assert reply.status_code == 200
        time.sleep(0.1)  # the first of them have long been told
    assert server.wait() == 0


def test_a_process_that_cannot_be_started_ends_no_other(several: Server) -> None:
    pid = several.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    # One file is given back with the process that ends, and its place would take two.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), limits[1]))
    os.kill(processes_of(several)[1], signal.SIGKILL)
    wait_until(lambda: "cannot be started" in several.stderr(), "an attempt")
    assert several.process.poll() is None
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    assert httpx.get(f"{several.url}/livez", timeout=PATIENCE, trust_env=False).status_code == 200


def test_the_first_process_that_is_killed_is_said(start_server: StartServer) -> None:
    server = start_server("--processes", "2", ready=False)
    wait_until(lambda: [number_of(one) for one in processes_of(server)] == [0], "the first process")
    os.kill(processes_of(server)[0], signal.SIGKILL)
    assert server.wait() == 1
    assert "the first process ended before it served" in server.stderr()


def test_a_folder_of_the_same_name_where_it_was_started_is_none_of_its_code(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "__init__.py").write_text("raise SystemExit('another project')")
    program = ["env", f"--chdir={tmp_path}", str(Path(sys.executable).parent / "embedserve")]
    server = Server(tmp_path / "output", [str(bundle), "--port", "0", "--processes", "2"], program=program)
    try:
        server.wait_ready().assert_well()
    finally:
        server.stop()


def test_flags_may_end_with_two_dashes(bundle: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, ["--port", "0", "--processes", "2", "--", str(bundle)])
    try:
        server.wait_ready().assert_well()
    finally:
        server.stop()


def test_while_it_drains_readiness_fails_and_replies_end_their_connections(start_server: StartServer) -> None:
    server = wait_all_ready(start_server("--processes", "2", "--drain-grace", "3"))
    with ExitStack() as opened:
        connections = [opened.enter_context(Raw(server.port)) for _ in range(4)]
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail", patience=2)
        for one in connections:
            one.post(BODY)
            status, headers, _ = one.reply()
            assert (status, headers["connection"]) == (200, "close")
    assert server.wait() == 0


def test_a_second_interrupt_ends_all_at_once(start_server: StartServer) -> None:
    server = wait_all_ready(start_server("--processes", "2", "--drain-grace", "60"))
    children = processes_of(server)
    server.signal(signal.SIGINT)
    wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail")
    server.signal(signal.SIGINT)
    assert server.wait() == 130
    wait_until(lambda: not any(map(is_there, children)), "no process to be left")


def test_they_end_with_who_started_them(several: Server) -> None:
    children = processes_of(several)
    several.signal(signal.SIGKILL)
    several.wait()
    wait_until(lambda: not any(map(is_there, children)), "no process to be left")


def test_it_can_be_ended_while_it_starts(start_server: StartServer) -> None:
    server = start_server("--processes", "2", ready=False)
    wait_until(lambda: bool(processes_of(server)), "the first process")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0


def test_what_is_wrong_at_the_start_is_said_once(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--processes", "3", model=tmp_path / "nothing", ready=False)
    assert server.wait() == 1
    assert server.stderr().count("nothing") == 1
    assert "→" in server.stderr()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--admin-keys", "an-administrator"), "--admin-keys"),
        (("--model-dir", "/models"), "--model-dir"),
    ],
)
def test_models_that_one_process_alone_would_load_are_refused(
    start_server: StartServer, flags: tuple[str, ...], named: str
) -> None:
    server = start_server("--processes", "2", *flags, ready=False)
    assert server.wait() == 1
    assert named in server.stderr()
    assert "--processes" in server.stderr()


def posted(server: Server, key: str) -> int:
    """The status that a client on a connection of its own gets."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
        return client.post("/v1/embeddings", content=BODY, headers={"api-key": key}).status_code


def test_limits_are_those_of_all_processes_together(start_server: StartServer, tmp_path: Path) -> None:
    """Whichever of them a connection is given to, when one has ended, and when the file is read again. Of two requests
    a minute one is back after half of it."""
    file = tmp_path / "keys"
    keys = ["key-of-the-first-one", "key-of-the-same-team-", "key-of-somebody-else-"]
    lines = [
        f"{key} name={name} requests_per_minute=2" for key, name in zip(keys, ("team", "team", "other"), strict=True)
    ]
    file.write_text("\n".join(lines))
    server = wait_all_ready(start_server("--processes", "2", "--api-key-file", str(file)))
    assert posted(server, keys[0]) == 200
    os.kill(processes_of(server)[1], signal.SIGKILL)
    wait_until(lambda: of_each(server, RESTARTS).get("1") == 1, "the process to be started anew")
    wait_all_ready(server)
    file.write_text("\n".join([*lines, "one-more-key-of-theirs name=late requests_per_minute=2"]))
    wait_until(lambda: posted(server, "one-more-key-of-theirs") != 401, "the file to be read again")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: posted(server, keys[number % 2]), range(8)))
    assert sorted(statuses) == [200] + [429] * 7
    assert posted(server, keys[2]) == 200


def test_without_keys_all_clients_of_all_processes_share_one_limit(start_server: StartServer) -> None:
    server = wait_all_ready(start_server("--processes", "2", "--tokens-per-minute", "12"))
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda _: posted(server, "anybody"), range(8)))
    assert sorted(statuses) == [200] * 4 + [429] * 4  # of three tokens each


def test_connections_beyond_all_limits_are_told_so(start_server: StartServer) -> None:
    server = wait_all_ready(start_server("--processes", "2", "--max-connections", "4"))
    server.http.close()
    with ExitStack() as opened:
        statuses = []
        for connection in [opened.enter_context(Raw(server.port)) for _ in range(6)]:
            connection.post(BODY)
            statuses.append(connection.reply()[0])
    assert sorted(statuses) == [200] * 4 + [503] * 2


def test_tls_and_a_second_port(start_server: StartServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    server = start_server("--processes", "2", "--admin-port", "0", *Files(tmp_path, authority).flags)
    [ready, *_] = [line for line in server.logged() if line["message"] == "ready"]
    with socket.create_connection(("127.0.0.1", server.port)) as plain:  # a handshake that fails
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(100)
    connect(server, trusts(authority))
    for _ in range(4):
        server.assert_well()
    assert server.http.get("/metrics").status_code == 404
    wait_until(
        lambda: server.http.get(f"{ready['admin_url']}/metrics").text.count("embedserve_ready{process=") == 2,
        "both processes' metrics",
    )
