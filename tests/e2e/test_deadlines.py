"""Clients that say how long they wait, and clients that do not wait: nothing is computed for those who are gone."""

from __future__ import annotations

import json
import socket
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from tests.conftest import StartServer
from tests.e2e.process import (
    HASTY,
    MODEL,
    TOO_MUCH,
    VERTEX_MODEL,
    Raw,
    Server,
    assert_google_error,
    assert_openai_error,
    cosines,
    full_windows,
    openai_vectors,
    wait_until,
)

TEXTS = full_windows(24)  # more than a second of work on one executor
BYTES_INPUT = [{"name": "text", "shape": [24], "datatype": "BYTES", "data": TEXTS}]
RESET = b"\x01\0\0\0\0\0\0\0"  # SO_LINGER: close() sends a reset

# One route of every dialect, with more to do than a millisecond's work.
BODIES: dict[str, dict[str, Any]] = {
    "/v1/embeddings": {"input": TEXTS},
    VERTEX_MODEL: {"instances": [{"content": text} for text in TEXTS]},
    f"/v1beta/models/{MODEL}:embedContent": {"content": {"parts": [{"text": " ".join(TEXTS)}]}},
    f"/v2/models/{MODEL}/infer": {"inputs": BYTES_INPUT},
    "/v2/embed": {"texts": TEXTS, "input_type": "search_document", "embedding_types": ["float"]},
    "/embed": {"inputs": TEXTS},
}


@pytest.fixture(scope="module")
def server(launch: StartServer) -> Server:
    """With one executor, so that work waits for work."""
    return launch("--executors", "1", "--max-queue-seconds", "3600")


def ran(server: Server) -> float:
    """Rows that reached the runtime."""
    return server.metric("embedserve_batch_rows_sum")


def for_nobody(server: Server) -> float:
    return server.metric("embedserve_unclaimed_rows_total")


def dropped(server: Server, reason: str) -> float:
    return server.metric("embedserve_dropped_total", reason=reason)


def idle(server: Server) -> bool:
    return not (server.metric("embedserve_running_batches") or server.metric("embedserve_queue_entries"))


def words_of(reply: httpx.Response) -> str:
    """The sentence of an error in any dialect."""
    body = reply.json()
    error = body.get("error", body.get("message"))
    if not isinstance(error, dict):
        return str(error)
    return str(error.get("detail") or error["message"])


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("header", ["x-request-timeout-ms: 1", "X-Server-Timeout: 0.001"])
def test_a_deadline_of_the_clients_is_504_in_every_dialect(server: Server, path: str, header: str) -> None:
    name, _, value = header.partition(": ")
    reply = server.post(path, BODIES[path], **{name: value})
    assert (reply.status_code, words_of(reply)) == (504, "The request was not finished within its time.")
    if path == "/v1/embeddings":
        assert assert_openai_error(reply, 504, "server_error")["code"] == "timeout"
    elif path in (VERTEX_MODEL, f"/v1beta/models/{MODEL}:embedContent"):
        assert_google_error(reply, 504, "DEADLINE_EXCEEDED")


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    ("name", "value"), [("x-request-timeout-ms", "soon"), ("x-request-timeout-ms", "0"), ("X-Server-Timeout", "NaN")]
)
def test_what_is_no_deadline_is_refused_in_every_dialect(server: Server, path: str, name: str, value: str) -> None:
    before = ran(server)
    reply = server.post(path, BODIES[path], **{name: value})
    assert reply.status_code == (422 if path == "/embed" else 400), reply.text  # TEI's own status for a wrong field
    assert name.lower() in words_of(reply)
    assert ran(server) == before


def test_a_client_cannot_lengthen_the_servers_own_limit(start_server: StartServer) -> None:
    hasty = start_server(*HASTY)
    for headers in ({"x-request-timeout-ms": "600000"}, {"X-Server-Timeout": "999999999999999"}):
        assert hasty.post("/v1/embeddings", {"input": TOO_MUCH}, **headers).status_code == 504
        wait_until(partial(idle, hasty), "an idle server")  # or the next one's time would be over before its turn


def test_a_deadline_that_is_kept_changes_nothing(server: Server) -> None:
    reply = server.post("/v1/embeddings", {"input": "a"}, x_request_timeout_ms="50000", x_server_timeout="50")
    assert cosines(openai_vectors(reply), server.embed("a")).min() >= 0.999999


def test_the_deadline_counts_while_the_body_comes(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nx-request-timeout-ms: 50\r\n\r\n{")
        status, headers, _ = raw.reply()
        assert (status, headers["connection"]) == (504, "close")
        assert raw.closed_by_server()


def test_a_clients_deadline_is_told_from_a_slow_client_to_the_last_microsecond(server: Server) -> None:
    """Timers ring up to a millisecond early: over half of these were called slow, and their connections cut."""
    cut = server.metric("embedserve_connections_cut_total")
    head = "POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nx-request-timeout-ms: {}\r\n\r\n"
    for milliseconds in ("33.3", "7.77", "0.0000001"):
        for _ in range(15):
            with Raw(server.port) as raw:
                raw.send(head.format(milliseconds).encode())
                assert raw.reply()[0] == 504
    assert server.metric("embedserve_connections_cut_total") == cut


def bulk(server: Server, pool: ThreadPoolExecutor, first: int) -> Future[httpx.Response]:
    """Work for some seconds, which has begun when this returns."""
    sent = pool.submit(server.post, "/v1/embeddings", {"input": full_windows(24, first)})
    wait_until(lambda: server.metric("embedserve_running_batches") > 0, "the bulk request running")
    return sent


def test_what_expired_never_reaches_the_runtime(server: Server) -> None:
    """Behind a long request, 200 others with 1 to 50 milliseconds each: what ran is what was answered, and what
    was running at the moment of its deadline."""
    wait_until(lambda: idle(server), "an idle server")
    ran_before, dropped_before, unclaimed = ran(server), dropped(server, "deadline_exceeded"), for_nobody(server)
    texts = [full_windows(2, 1_000 + 2 * i) for i in range(200)]
    with ThreadPoolExecutor(32) as pool:
        long = bulk(server, pool, 2_000)
        sent = [
            pool.submit(server.post, "/v1/embeddings", {"input": two}, x_request_timeout_ms=str(1 + i % 50))
            for i, two in enumerate(texts)
        ]
        replies = [one.result() for one in sent]
        assert openai_vectors(long.result()).shape[0] == 24
    # 429 at once is for those whose time would be over before their turn, or who find the queue full.
    assert {504} <= {reply.status_code for reply in replies} <= {200, 429, 504}
    expired = [reply for reply in replies if reply.status_code != 200]
    assert len(expired) > 100
    wait_until(lambda: idle(server), "an idle server")
    answered = 24 + 2 * (len(replies) - len(expired))
    assert ran(server) - ran_before == answered + for_nobody(server) - unclaimed
    assert 0 < dropped(server, "deadline_exceeded") - dropped_before <= 2 * len(expired)
    # A batch of these holds two of them, and one batch of them runs, or lies ready, at a time.
    assert for_nobody(server) - unclaimed < len(expired)
    for two, reply in list(zip(texts, replies, strict=True))[::10]:
        if reply.status_code == 200:
            assert cosines(openai_vectors(reply), server.embed(two)).min() >= 0.999999


def test_what_was_abandoned_never_reaches_the_runtime(server: Server) -> None:
    """60 requests that wait for a long one are left by their clients, by FIN or by RST: none of their rows runs."""
    wait_until(lambda: idle(server), "an idle server")
    ran_before, gone = ran(server), dropped(server, "client_gone")
    with ThreadPoolExecutor(1) as pool:
        long = bulk(server, pool, 10_000)
        for i in range(60):
            raw = Raw(server.port)
            # Of the long one's class, so that it is their turn only when that one is done.
            raw.post(json.dumps({"input": full_windows(12, 20_000 + 12 * i)}).encode())
            if i % 2:
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            raw.socket.close()
        assert openai_vectors(long.result()).shape[0] == 24
    wait_until(lambda: idle(server), "an idle server")
    assert ran(server) - ran_before == 24
    assert dropped(server, "client_gone") - gone <= 12 * 60
    server.assert_well()


def test_two_deadlines_of_one_kind_are_refused(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.post(b'{"input": "a"}', "x-request-timeout-ms: 50", "X-Request-Timeout-Ms: 60000")
        assert raw.reply()[0] == 400
