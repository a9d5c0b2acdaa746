"""More than the server can do at once: everybody gets an answer, and a time to come back that is worth waiting for."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import numpy as np
import openai
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL, Raw, Server, assert_openai_error, cosines, full_windows, openai_vectors, wait_until

CLIENTS = 40


@pytest.fixture(scope="module")
def narrow(launch: StartServer) -> Iterator[Server]:
    """Hardly anything may wait, be held, or be connected."""
    server = launch(
        *("--executors", "1", "--max-queue-tokens", "1000", "--max-batch-tokens", "256"),
        *("--max-buffered-bytes", "100000", "--max-connections", "150", "--client-timeout", "100"),
    )
    yield server
    server.stop()


def test_openai_clients_that_wait_as_they_are_told_all_succeed(narrow: Server) -> None:
    texts = full_windows(CLIENTS)

    before = narrow.metric("embedserve_rejections_total", reason="overloaded")
    direct = openai.DefaultHttpxClient(trust_env=False)
    url = f"{narrow.url}/v1"
    with (
        openai.OpenAI(base_url=url, api_key="x", max_retries=100, http_client=direct) as client,
        ThreadPoolExecutor(CLIENTS) as pool,
    ):
        found = list(pool.map(lambda text: client.embeddings.create(model=MODEL, input=text).data[0].embedding, texts))
    assert narrow.metric("embedserve_rejections_total", reason="overloaded") > before
    assert cosines(narrow.embed(texts[:3]), np.asarray(found[:3], np.float32)).min() >= 0.999999
    assert len(found) == CLIENTS
    _is_well(narrow)


def test_every_request_is_answered_and_those_refused_have_a_time_to_come_back(narrow: Server) -> None:
    with ThreadPoolExecutor(CLIENTS) as pool:
        sent = [pool.submit(narrow.post, "/v1/embeddings", {"input": one}) for one in full_windows(4 * CLIENTS, 1000)]
        replies = [one.result() for one in sent]
    refused = [reply for reply in replies if reply.status_code != 200]
    assert 0 < len(refused) < len(replies)
    for reply in refused:
        assert assert_openai_error(reply, 429, "tokens")["code"] == "rate_limit_exceeded"
        assert 1 <= int(reply.headers["retry-after"]) <= 60
        assert 1000 <= float(reply.headers["retry-after-ms"]) <= 1000 * int(reply.headers["retry-after"])
    _is_well(narrow)


def test_bodies_in_memory_are_bounded_and_what_is_refused_is_let_go_of(narrow: Server) -> None:
    half = b'{"input": "' + b"a" * 60_000
    with Raw(narrow.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 70000\r\n\r\n" + half)
        wait_until(lambda: narrow.metric("embedserve_held_body_bytes") >= 50_000, "half a body")
        large = narrow.post("/v1/embeddings", {"input": "b " * 30_000})
        assert assert_openai_error(large, 429, "tokens")["code"] == "rate_limit_exceeded"
        assert int(large.headers["retry-after"]) >= 1
        assert narrow.post("/v1/embeddings", {"input": "small enough"}).status_code == 200
        assert narrow.http.get("/readyz").status_code == 200
    wait_until(lambda: narrow.metric("embedserve_held_body_bytes") == 0, "nothing to be held")
    _is_well(narrow)


def test_beyond_the_limit_of_connections_only_probes_are_answered(narrow: Server) -> None:
    crowd = [socket.create_connection(("127.0.0.1", narrow.port), timeout=30) for _ in range(150)]
    try:
        for one in crowd:
            one.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        for one in crowd:
            one.recv(1 << 16)
        with Raw(narrow.port) as raw:
            raw.post(json.dumps({"input": "a"}).encode())
            status, headers, _ = raw.reply()
            assert (status, headers["connection"]) == (503, "close")
            assert int(headers["retry-after"]) >= 1
            assert raw.closed_by_server()
        with Raw(narrow.port) as raw:
            raw.send(b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n")
            status, headers, _ = raw.reply()
            assert (status, headers["connection"]) == (200, "close")
        surplus = [socket.create_connection(("127.0.0.1", narrow.port), timeout=30) for _ in range(100)]
        with surplus[-1] as last:  # beyond those that a probe may come on
            assert _is_closed(last)
        for one in surplus:
            one.close()
    finally:
        for one in crowd:
            one.close()
    wait_until(lambda: _answers(narrow), "room for connections")
    _is_well(narrow)


def test_what_cannot_be_done_within_its_time_is_refused_and_not_run(start_server: StartServer, golden: Golden) -> None:
    """The server knows its speed by then, and that what waits takes longer."""
    server = start_server("--executors", "1", "--max-batch-tokens", "256", "--request-timeout", "600")
    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(server.post, "/v1/embeddings", {"input": full_windows(8, 8 * i)}) for i in range(4)]
        wait_until(lambda: server.metric("embedserve_batch_rows_count") > 4, "some batches")
        asked = server.post("/v1/embeddings", {"input": full_windows(8, 2000)}, x_request_timeout_ms="300")
        assert_openai_error(asked, 429, "tokens")
        assert [one.result().status_code for one in sent] == [200] * 4
    assert server.metric("embedserve_dropped_total") == 0
    assert cosines(server.embed(golden.texts[:5]), golden.vectors[:5]).min() >= 0.999999


def test_who_stops_before_a_body_is_whole_makes_room(start_server: StartServer) -> None:
    """They fill all the memory that there is for bodies, fast, and then say nothing; or one byte at times."""
    server = start_server("--max-buffered-bytes", "1000000", "--client-timeout", "10")
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 200000\r\n\r\n"
    with ExitStack() as stack:
        stopped = [stack.enter_context(Raw(server.port)) for _ in range(8)]
        for one in stopped:
            one.send(head + b" " * 120_000)
        wait_until(lambda: server.metric("embedserve_held_body_bytes") >= 800_000, "memory full of halves")
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            for one in stopped:
                with suppress(ConnectionError):
                    one.send(b" ")
            if server.post("/v1/embeddings", {"input": "b" + " " * 250_000}).status_code == 200:
                break
        else:
            pytest.fail("no room, although everyone has stopped")
        assert server.metric("embedserve_connections_cut_total", reason="slow_body") >= 1
        assert server.metric("embedserve_held_body_bytes") < 1_000_000
    wait_until(lambda: server.metric("embedserve_held_body_bytes") == 0, "nothing to be held")


def test_who_was_fast_has_saved_up_nothing(start_server: StartServer) -> None:
    """A megabyte is worth a hundred seconds at the slowest pace, and no second in which nothing comes."""
    server = start_server("--client-timeout", "2", "--request-timeout", "1000")
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 1000001\r\n\r\n" + b" " * 1_000_000)
        assert raw.reply()[0] == 408


def test_a_body_larger_than_what_may_be_held_is_read_where_nothing_else_is(start_server: StartServer) -> None:
    server = start_server("--max-buffered-bytes", "100000")
    assert server.post("/v1/embeddings", {"input": "a" + " " * 300_000}).status_code == 200


def test_a_server_that_has_just_started_knows_what_it_can_do(start_server: StartServer, golden: Golden) -> None:
    """Nothing has waited yet: who cannot be done in time is refused at once, and does not wait in vain."""
    server = start_server("--request-timeout", "4")
    with ThreadPoolExecutor(100) as pool:
        sent = [pool.submit(server.post, "/v1/embeddings", {"input": full_windows(4, 4 * i)}) for i in range(200)]
        found = [one.result().status_code for one in sent]
    assert set(found) <= {200, 429, 504}
    assert found.count(429) > len(found) / 4 > found.count(504)
    assert cosines(server.embed(golden.texts[:5]), golden.vectors[:5]).min() >= 0.999999


def _is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def _answers(server: Server) -> bool:
    try:
        return server.http.get("/livez").status_code == 200
    except httpx.TransportError:
        return False


def _is_well(server: Server) -> None:
    """Nothing is left of the load, and the next request is answered rightly."""
    wait_until(lambda: server.metric("embedserve_queue_entries") == 0, "an empty queue")
    assert server.metric("embedserve_queue_tokens") == 0
    assert server.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0
    wait_until(lambda: server.post("/v1/embeddings", {"input": "Are you well?"}).status_code == 200, "a good answer")
    assert openai_vectors(server.post("/v1/embeddings", {"input": "Are you well?"})).shape == (1, 384)
