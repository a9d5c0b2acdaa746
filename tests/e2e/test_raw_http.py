"""Clients that are slow, old, odd or rude."""

from __future__ import annotations

import contextlib
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import pytest

from tests.conftest import StartServer
from tests.e2e.process import MODEL, Raw, Server, assert_openai_error

BODY = b'{"input": "a"}'


def test_http_1_0(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY))
        status, _, body = raw.reply()
        assert (status, len(json.loads(body)["data"])) == (200, 1)
        assert raw.closed_by_server()


def test_replies_are_dated(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.post(BODY)
        age = datetime.now(UTC) - parsedate_to_datetime(raw.reply()[1]["date"])
        assert timedelta(0) <= age < timedelta(minutes=1)


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    with Raw(server.port) as raw:
        for i in range(20):
            raw.post(json.dumps({"input": ["a"] * (1 + i % 3)}).encode(), f"x-request-id: number-{i}")
        for i in range(20):
            status, headers, body = raw.reply()
            assert status == 200
            assert headers["x-request-id"] == f"number-{i}"
            assert len(json.loads(body)["data"]) == 1 + i % 3


def test_a_good_request_behind_a_bad_one(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.post(b"{")
        raw.post(BODY)
        raw.post(BODY, path="/nowhere")
        raw.post(BODY)
        assert [raw.reply()[0] for _ in range(4)] == [400, 200, 404, 200]


def test_get_with_a_body(server: Server) -> None:
    with Raw(server.port) as raw:
        for _ in range(2):
            raw.send(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        assert [raw.reply()[0] for _ in range(2)] == [200, 200]


def test_a_body_byte_by_byte(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n" + BODY:
            raw.send(bytes([byte]))
        assert raw.reply()[0] == 200


def test_chunks_of_one_byte(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        raw.send(b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n")
        assert raw.reply()[0] == 200
        raw.post(BODY)
        assert raw.reply()[0] == 200


def test_expect_100_continue(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n")
        assert raw.reply()[0] == 100
        raw.send(BODY)
        assert raw.reply()[0] == 200


def test_expect_100_continue_of_what_is_refused(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\nExpect: 100-continue\r\n\r\n")
        status = raw.reply()[0]
        assert status in (100, 404)


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT localhost:1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nX-\x00: 1\r\n\r\n",
    ],
    ids=lambda value: ascii(value)[:70],
)
def test_nonsense_harms_nobody(server: Server, request_: bytes) -> None:
    with Raw(server.port) as raw:
        raw.send(request_)
        raw.socket.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionError):
            raw.reply()
    server.assert_well()
    server.logged()  # every line is JSON


def test_a_very_long_header(server: Server) -> None:
    reply = server.http.post(
        "/v1/embeddings", content=BODY, headers={"x-long": "x" * 60_000, "x-request-id": "y" * 9_000}
    )
    assert reply.status_code in (200, 431)
    server.assert_well()


def test_many_idle_connections(server: Server) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(200)]
    try:
        server.assert_well()
    finally:
        for one in idle:
            one.close()


def test_an_absolute_target(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(b"GET http://anything:1/v1/models HTTP/1.1\r\nHost: anything:1\r\n\r\n")
        assert raw.reply()[0] == 200


@pytest.mark.parametrize(
    "path", ["/v1/embeddings?", "/v1/embeddings?a=b&a=c&%ff=%00", "/v1//embeddings", "/V1/embeddings"]
)
def test_queries_are_ignored_and_paths_are_not(server: Server, path: str) -> None:
    reply = server.post(path, {"input": "a", "model": MODEL})
    if "?" in path:
        assert reply.status_code == 200
    else:
        assert_openai_error(reply, 404)


@pytest.mark.parametrize("separator", [b"", b"\r\nx-another: "])
def test_a_head_without_end_is_cut_off(server: Server, separator: bytes) -> None:
    with Raw(server.port) as raw:
        raw.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nx-one: ")
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                raw.send(b"a" * 1_000_000 + separator)
            pytest.fail("100 MB of headers were read")
    server.assert_well()


def test_large_bodies_behind_small_heads_are_not_taken_for_heads(server: Server) -> None:
    body = json.dumps({"input": "a", "unknown": "x" * 200_000}).encode()
    with Raw(server.port) as raw:
        for _ in range(3):
            raw.post(body)
            assert raw.reply()[0] == 200


def test_a_body_that_does_not_come_is_given_up(start_server: StartServer) -> None:
    hasty = start_server("--request-timeout", "0.5")
    with Raw(hasty.port) as raw:
        raw.send(b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        status, headers, body = raw.reply()
        assert (status, headers["connection"]) == (408, "close")
        assert set(json.loads(body)["error"]) >= {"message", "type", "param", "code"}
        assert raw.closed_by_server()
    hasty.assert_well()


@pytest.mark.parametrize("together", [True, False])
def test_a_wish_for_http_2_is_ignored(server: Server, together: bool) -> None:
    """Java's java.net.http.HttpClient sends this with its first request."""
    head = (
        b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
        b"Content-Length: %d\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\nUpgrade: h2c\r\n\r\n"
        % len(BODY)
    )
    with Raw(server.port) as raw:
        for _ in range(2):
            raw.send(head + BODY if together else head)
            if not together:
                raw.send(BODY)
            status, _, body = raw.reply()
            assert (status, len(json.loads(body)["data"])) == (200, 1)


def test_trailer_fields_are_no_headers(start_server: StartServer) -> None:
    guarded = start_server(env={"EMBEDSERVE_API_KEYS": "a-key"})
    chunked = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n"
    with Raw(guarded.port) as raw:
        raw.send(chunked % (len(BODY), BODY) + b"authorization: Bearer a-key\r\n\r\n")
        assert raw.reply()[0] == 401


def test_trailer_fields_without_end_are_cut_off(server: Server) -> None:
    with Raw(server.port) as raw:
        raw.send(
            b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n"
        )
        with contextlib.suppress(ConnectionError):
            for i in range(1000):
                raw.send(b"x-%d: %s\r\n" % (i, b"a" * 100_000))
            pytest.fail("100 MB of trailer fields were read")
    server.assert_well()
