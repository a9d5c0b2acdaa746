"""Clients that take their time, by hundreds: each is ended, and costs nobody else anything."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import Raw, Server, openai_vectors, wait_until

CLIENTS = 200
SECONDS = 2  # that a client may take
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n"
NO_PATH = b"POST /no HTTP/1.1\r\nHost: x\r\n"
DOCUMENT = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n"  # its reply has 0.2 MB
REPLIES = 24  # together more than the kernel takes for a connection
PATIENCE = 60.0

# What a client sends at once, what it sends again and again, and what it is ended for.
KINDS = {
    "says nothing": (b"", b"", "slow_head"),
    "sends a head byte by byte": (HEAD + b"x-long: ", b"a", "slow_head"),
    "sends a body byte by byte": (HEAD + b"Content-Length: 1000\r\n\r\n{", b" ", "slow_body"),
    "sends chunks of a byte": (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", "slow_body"),
    "sends a body that is refused": (NO_PATH + b"Content-Length: 99999\r\n\r\n", b" ", "slow_body"),
    "never reads": (DOCUMENT * REPLIES, b"", "slow_reader"),
}


@pytest.fixture(scope="module")
def server(launch: StartServer) -> Server:
    """It has answered a request, so that what it opens once is open."""
    found = launch("--client-timeout", str(SECONDS))
    found.assert_well()
    return found


def cut(server: Server, reason: str) -> float:
    return server.metric("embedserve_connections_cut_total", reason=reason)


def files(server: Server) -> float:
    return server.metric("process_open_fds")


def crowd(server: Server, first: bytes) -> list[socket.socket]:
    """Connections with hardly any room for what they receive."""
    clients = []
    for _ in range(CLIENTS):
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.connect(("127.0.0.1", server.port))
        one.setblocking(False)
        one.send(first)
        clients.append(one)
    return clients


@contextmanager
def closing(clients: list[socket.socket]) -> Iterator[None]:
    try:
        yield
    finally:
        for one in clients:
            one.close()


def trickle(clients: list[socket.socket], more: bytes) -> None:
    for one in clients if more else ():
        with suppress(OSError):
            one.send(more)


@pytest.mark.parametrize("kind", KINDS)
def test_a_crowd_of_slow_clients_is_ended_and_costs_nobody_anything(server: Server, golden: Golden, kind: str) -> None:
    first, more, reason = KINDS[kind]
    before, open_before = cut(server, reason), files(server)
    clients = crowd(server, first)
    with closing(clients):

        def all_cut() -> bool:
            """After a good request, and another byte of each of the others."""
            trickle(clients, more)
            reply = server.post("/v1/embeddings", {"input": golden.texts[:2]})
            assert np.abs(openai_vectors(reply) - golden.vectors[:2]).max() <= 1e-4
            return cut(server, reason) - before >= CLIENTS

        wait_until(all_cut, f"{CLIENTS} connections cut for {reason}", PATIENCE)
        assert cut(server, reason) - before == CLIENTS
        wait_until(lambda: files(server) <= open_before, "its files closed, while the clients' are open", PATIENCE)
    assert server.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0


def test_a_slow_body_is_answered_before_it_is_ended(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(HEAD + b"Content-Length: 100\r\n\r\n{")
        status, headers, body = raw.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert json.loads(body)["error"]["message"]
        assert raw.closed_by_server()


def test_a_reader_that_is_slow_but_reads_gets_its_whole_reply(server: Server) -> None:
    whole = server.http.get("/openapi.json").content
    before, received, ends_at = cut(server, "slow_reader"), b"", time.monotonic() + 2 * SECONDS
    with Raw(server.port) as raw:
        raw.send(DOCUMENT * REPLIES)
        while received.count(whole) < REPLIES:
            received += raw.socket.recv(65_536)
            time.sleep(0.05 if time.monotonic() < ends_at else 0)
    assert cut(server, "slow_reader") == before


def test_a_refused_body_is_thrown_away_and_the_reply_arrives(server: Server) -> None:
    """A connection that is closed while bytes arrive would be reset, and the reply with it."""
    size = 8 * 2**20
    with Raw(server.port) as raw:
        raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(8):
            raw.send(b" " * 2**20)
        status, headers, _ = raw.reply()
        assert (status, headers["connection"]) == (413, "close")
        assert raw.closed_by_server()


@pytest.mark.parametrize(
    ("first", "more", "reason"),
    [
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1;" + b"x" * 100_000 + b"\r\n \r\n", "endless_body"),
        (NO_PATH + b"Content-Length: 999999999\r\n\r\n", b" " * 1_000_000, "unread_body"),
        (HEAD + b"x: ", b"a" * 100_000, "large_head"),
    ],
)
def test_what_is_sent_without_end_is_cut(server: Server, first: bytes, more: bytes, reason: str) -> None:
    before = cut(server, reason)
    with Raw(server.port) as raw, suppress(ConnectionError):
        raw.send(first)
        for _ in range(1000):
            raw.send(more)
        pytest.fail(f"{1000 * len(more)} bytes were read")
    wait_until(lambda: cut(server, reason) == before + 1, f"the connection counted as {reason}", PATIENCE)
    server.assert_well()
