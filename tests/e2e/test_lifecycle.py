"""Start, overload, lost clients, deadlines, and the way out."""

from __future__ import annotations

import json
import os
import signal
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import (
    HASTY,
    MODEL,
    TOO_MUCH,
    VERTEX_MODEL,
    Raw,
    Server,
    add_pipe,
    assert_google_error,
    assert_openai_error,
    cosines,
    full_windows,
    openai_vectors,
    wait_until,
)

ROWS = 16
SLOW = {"input": full_windows(ROWS)}  # 4,096 tokens: about a second of work on one executor


# However slow the machine is, nothing is refused because it would come too late.
PATIENT = ("--request-timeout", "3600", "--max-queue-seconds", "3600")


def slow_requests(server: Server, pool: ThreadPoolExecutor, count: int) -> list[Future[httpx.Response]]:
    """Returns once the server, a PATIENT one, is working on all of them."""
    bodies = [{"input": full_windows(ROWS, number * ROWS)} for number in range(count)]
    sent = [pool.submit(server.post, "/v1/embeddings", body) for body in bodies]
    wait_until(
        lambda: (
            server.metric("embedserve_requests_in_flight", route="/v1/embeddings") >= count
            and server.metric("embedserve_running_batches") > 0
        ),
        "work in flight",
    )
    return sent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_requests_in_flight_finish(start_server: StartServer, number: signal.Signals) -> None:
    server = start_server("--executors", "1", "--drain-timeout", "150", *PATIENT)
    with ThreadPoolExecutor(4) as pool:
        sent = slow_requests(server, pool, 2)
        server.signal(number)
        replies = [one.result() for one in sent]
    assert [reply.status_code for reply in replies] == [200] * 2
    assert all(openai_vectors(reply).shape == (ROWS, 384) for reply in replies)
    assert server.wait() == 0
    assert server.logged()[-1]["message"] == "stopped"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5)


def test_an_idle_server_stops_at_once_whatever_connections_are_open(start_server: StartServer) -> None:
    server = start_server("--drain-timeout", "50")
    with Raw(server.port) as silent, Raw(server.port) as half:
        half.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n")
        server.assert_well()
        server.signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0
        assert silent.closed_by_server()


def test_a_second_interrupt_does_not_wait(start_server: StartServer) -> None:
    server = start_server("--executors", "1", "--drain-grace", "50", *PATIENT)
    with ThreadPoolExecutor(2) as pool:
        sent = slow_requests(server, pool, 2)
        server.signal(signal.SIGINT)
        wait_until(lambda: server.http.get("/readyz").status_code == 503, "drain")
        server.signal(signal.SIGINT)
        assert server.process.wait(timeout=5) == 130
        assert all(one.exception() for one in sent)


def test_requests_that_outlast_the_drain_are_told_so(start_server: StartServer) -> None:
    server = start_server("--executors", "1", "--drain-timeout", "1", "--max-batch-tokens", "256", *PATIENT)
    with ThreadPoolExecutor(8) as pool:
        sent = slow_requests(server, pool, 8)
        server.signal(signal.SIGTERM)
        late = [reply for one in sent if (reply := one.result()).status_code != 200]
    assert late
    for reply in late:
        assert_openai_error(reply, 503, "service_unavailable_error")
        assert int(reply.headers["retry-after"]) >= 1
    assert server.wait() == 0
    assert "exception" not in "".join(server.stderr().splitlines()).lower()


def test_drain_timeout_ends_what_does_not_finish(start_server: StartServer) -> None:
    server = start_server("--executors", "1", "--drain-timeout", "1")
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        wait_until(
            lambda: server.metric("embedserve_requests_in_flight", route="/v1/embeddings") >= 1, "the request in flight"
        )
        server.signal(signal.SIGTERM)
        assert server.process.wait(timeout=20) == 0
    server.logged()


def test_readiness_fails_during_the_grace_while_requests_are_served(start_server: StartServer) -> None:
    server = start_server("--drain-grace", "4")
    assert server.http.get("/readyz").status_code == 200
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail", patience=3)
    assert server.http.get("/livez").status_code == 200
    server.assert_well()
    with httpx.Client(trust_env=False) as newcomer:
        assert newcomer.post(f"{server.url}/v1/embeddings", json={"input": "a"}).status_code == 200
    assert server.metric("embedserve_ready") == 0
    server.http.close()
    assert server.wait() == 0


def test_overload_is_refused_and_passes(start_server: StartServer, golden: Golden) -> None:
    server = start_server("--max-queue-tokens", "2000", "--executors", "1", "--max-batch-tokens", "256")
    with ThreadPoolExecutor(48) as pool:
        sent = [pool.submit(server.post, "/v1/embeddings", {"input": full_windows(4, 4 * i)}) for i in range(150)]
        vertex = [
            pool.submit(server.post, VERTEX_MODEL, {"instances": [{"content": f"{i} and {j}"} for j in range(20)]})
            for i in range(30)
        ]
        replies = [one.result() for one in sent]
        google = [one.result() for one in vertex]
    served = [reply for reply in replies if reply.status_code == 200]
    refused = [reply for reply in replies if reply.status_code != 200]
    assert served
    assert refused
    for reply in refused:
        error = assert_openai_error(reply, 429, "tokens")
        assert error["code"] == "rate_limit_exceeded"
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.headers["retry-after"].isdigit()
        assert 0 < float(reply.headers["retry-after-ms"]) <= 1000 * int(reply.headers["retry-after"])
    for reply in google:
        if reply.status_code != 200:
            assert_google_error(reply, 429, "RESOURCE_EXHAUSTED")
            assert int(reply.headers["retry-after"]) >= 1
    for number, reply in enumerate(replies):
        if reply.status_code == 200:
            assert cosines(openai_vectors(reply), server.embed(full_windows(4, 4 * number))).min() >= 0.999999
    # It recovers: nothing waits, and everyone is served again.
    wait_until(lambda: server.metric("embedserve_queue_tokens") == 0, "the queue to drain")
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
    total = server.metric("embedserve_rejections_total", reason="overloaded")
    assert total == len(refused) + sum(reply.status_code == 429 for reply in google)


def test_a_request_larger_than_the_queue_is_served_when_it_is_alone(start_server: StartServer) -> None:
    server = start_server("--max-queue-tokens", "10")
    assert server.embed(full_windows(8)).shape == (8, 384)


def test_a_client_that_left_is_dropped(start_server: StartServer, golden: Golden) -> None:
    server = start_server("--executors", "1")
    body = json.dumps(SLOW).encode()
    with Raw(server.port) as raw:
        raw.post(body)
        wait_until(lambda: server.metric("embedserve_queue_entries") > 0, "work in the queue")
    wait_until(lambda: server.metric("embedserve_dropped_total", reason="client_gone") > 0, "the drop")
    wait_until(lambda: server.metric("embedserve_queue_entries") == 0, "the queue to empty")
    assert server.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0
    assert np.abs(server.embed(golden.texts[0]) - golden.vectors[:1]).max() <= 1e-4


def test_a_client_that_left_behind_a_large_body_is_dropped(start_server: StartServer) -> None:
    """One so large that reading was paused while it came."""
    server = start_server("--executors", "1")
    texts = [f"{'the ' * 240}{i} {'x' * 19_000}" for i in range(105)]
    with Raw(server.port) as raw:
        raw.post(json.dumps({"input": texts}).encode())
        wait_until(lambda: server.metric("embedserve_queue_entries") > 0, "work in the queue")
    wait_until(lambda: server.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0, "the request's end")
    assert server.metric("embedserve_dropped_total", reason="client_gone") > 0


def test_many_clients_that_leave_at_any_moment(start_server: StartServer, golden: Golden) -> None:
    server = start_server("--executors", "2")
    for i in range(60):
        body = json.dumps({"input": full_windows(16, 16 * i)}).encode()
        request = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        with Raw(server.port) as raw:
            if i % 3 == 0:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset
            raw.send(request[: len(request) * (i + 1) // 50])
    wait_until(
        lambda: (
            server.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0
            and server.metric("embedserve_running_batches") == 0
        ),
        "all of it to end",
    )
    assert server.metric("embedserve_queue_tokens") == server.metric("embedserve_queue_entries") == 0
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
    server.logged()


def test_a_deadline_passed_is_504_in_the_dialects_words(start_server: StartServer) -> None:
    server = start_server(*HASTY)
    error = assert_openai_error(server.post("/v1/embeddings", {"input": TOO_MUCH}), 504, "server_error")
    assert error["code"] == "timeout"
    body = {"instances": [{"content": text} for text in TOO_MUCH]}
    assert_google_error(server.post(VERTEX_MODEL, body), 504, "DEADLINE_EXCEEDED")
    assert server.metric("embedserve_dropped_total", reason="deadline_exceeded") > 0
    assert server.metric("embedserve_rejections_total", reason="deadline_exceeded") == 2
    wait_until(lambda: server.metric("embedserve_running_batches") == 0, "idle")
    assert server.post("/v1/embeddings", {"input": "a"}).status_code == 200


def test_liveness_fails_when_a_batch_takes_too_long(start_server: StartServer) -> None:
    server = start_server("--stall-timeout", "0.001", "--executors", "1", "--max-batch-tokens", "100000")
    assert server.http.get("/livez").status_code == 200
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(server.post, "/v1/embeddings", SLOW)
        wait_until(lambda: server.http.get("/livez").status_code == 503 or sent.done(), "liveness to fail")
        assert not sent.done()
        assert sent.result().status_code == 200
    assert server.http.get("/livez").json() == {"status": "alive"}


def start_loading(make_bundle: MakeBundle, start_server: StartServer) -> tuple[Server, Path, bytes]:
    """A bundle one file of which is a pipe: loading waits until the test has written into it."""
    folder = make_bundle()
    pipe, content = add_pipe(folder)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = start_server(model=folder, port=str(port), ready=False)
    server.at(port)
    wait_until(lambda: answers(server), "liveness while loading")
    return server, pipe, content


def answers(server: Server) -> bool:
    try:
        return server.http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_while_loading_everything_is_503_and_alive(make_bundle: MakeBundle, start_server: StartServer) -> None:
    server, pipe, content = start_loading(make_bundle, start_server)
    assert server.http.get("/readyz").status_code == 503
    assert server.http.get("/readyz").json() == {"status": "not ready"}
    reply = server.post("/v1/embeddings", {"input": "a"})
    assert assert_openai_error(reply, 503, "service_unavailable_error")["code"] == "server_is_overloaded"
    assert int(reply.headers["retry-after"]) >= 1
    vertex = server.post(VERTEX_MODEL, {"instances": [{"content": "a"}]})
    assert_google_error(vertex, 503, "UNAVAILABLE")
    assert int(vertex.headers["retry-after"]) >= 1
    assert server.http.get("/v1/models").json() == {"object": "list", "data": [], "models": []}
    assert_openai_error(server.http.get(f"/v1/models/{MODEL}"), 503, "service_unavailable_error")
    assert server.metric("embedserve_ready") == 0
    pipe.write_bytes(content)
    server.wait_ready().assert_well()
    assert server.http.get("/readyz").status_code == 200


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_signal_while_loading_ends_the_process(make_bundle: MakeBundle, start_server: StartServer) -> None:
    """It never says that it is ready."""
    server, _, _ = start_loading(make_bundle, start_server)  # the rest of its bundle never comes
    server.signal(signal.SIGTERM)
    assert server.process.wait(timeout=30) == 0
    assert server.stdout() == ""
    assert "ready" not in [line["message"] for line in server.logged()]
