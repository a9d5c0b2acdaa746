"""What no client sends on purpose: lengths that lie, heads that are two, floods on one connection, odd paths."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import pytest

from service.protocol import MAX_HEAD_BYTES
from tests.e2e.process import Raw
from tests.hostile.target import KEY, MARK, Target

BODY = json.dumps({"input": MARK}).encode()
HEAD = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % KEY.encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"

# Each is one request or none: 400, and the connection ends, so that nothing behind it can be a second one.
REFUSED = {
    "length and chunks": LENGTH + CHUNKED + b"\r\n" + CHUNKS,
    "chunks and length": CHUNKED + LENGTH + b"\r\n" + CHUNKS,
    "two lengths": LENGTH + b"Content-Length: 1\r\n\r\n" + BODY,
    "the same length twice": LENGTH + LENGTH + b"\r\n" + BODY,
    "a list of lengths": b"Content-Length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY,
    "negative length": b"Content-Length: -1\r\n\r\n" + BODY,
    "length with a plus": b"Content-Length: +%d\r\n\r\n" % len(BODY) + BODY,
    "hexadecimal length": b"Content-Length: 0x%x\r\n\r\n" % len(BODY) + BODY,
    "length of two numbers": b"Content-Length: 1 4\r\n\r\n" + BODY,
    "empty length": b"Content-Length: \r\n\r\n" + BODY,
    "length of 30 digits": b"Content-Length: " + b"9" * 30 + b"\r\n\r\n" + BODY,
    "space before the colon": b"Content-Length : %d\r\n\r\n" % len(BODY) + BODY,
    "unknown coding": LENGTH + b"Transfer-Encoding: xchunked\r\n\r\n" + BODY,
    "identity": LENGTH + b"Transfer-Encoding: identity\r\n\r\n" + BODY,
    "chunked is not last": b"Transfer-Encoding: chunked, gzip\r\n\r\n" + CHUNKS,
    "gzip within chunks": b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS,
    "gzip, then chunks": b"Transfer-Encoding: gzip\r\n" + CHUNKED + b"\r\n" + CHUNKS,
    "two hosts": b"Host: localhost\r\n" + LENGTH + b"\r\n" + BODY,
    "chunked twice": CHUNKED + CHUNKED + b"\r\n" + CHUNKS,
    "chunked behind a tab": b"Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKS,
    "folded line": b"X-A: b\r\n c\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a value": b"X-A: a\x00b\r\n" + LENGTH + b"\r\n" + BODY,
    "NUL in a name": b"X\x00: a\r\n" + LENGTH + b"\r\n" + BODY,
    "no colon": b"XYZ\r\n" + LENGTH + b"\r\n" + BODY,
    "no name": b": a\r\n" + LENGTH + b"\r\n" + BODY,
    "bare CR": b"X: a\rY: b\r\n" + LENGTH + b"\r\n" + BODY,
    "bare LF": LENGTH.replace(b"\r\n", b"\n") + b"\n" + BODY,
    "negative chunk": CHUNKED + b"\r\n-1\r\n",
    "0x chunk": CHUNKED + b"\r\n0x" + CHUNKS,
    "chunk of 17 digits": CHUNKED + b"\r\nfffffffffffffffff\r\n",
    "chunk longer than said": CHUNKED + b"\r\n5\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunks with bare LF": CHUNKED + b"\r\n" + CHUNKS.replace(b"\r\n", b"\n"),
    "LF in a chunk's extension": CHUNKED + b"\r\n%x;a\nb\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
}


@pytest.mark.parametrize("rest", REFUSED.values(), ids=REFUSED)
def test_what_is_not_one_request_is_none(target: Target, rest: bytes) -> None:
    assert target.raw(HEAD + rest + SMUGGLED, replies=3) in ([400], [400, 400])


def test_a_length_that_is_too_small_makes_the_rest_a_bad_request(target: Target) -> None:
    assert target.raw(HEAD + b"Content-Length: 5\r\n\r\n" + BODY, replies=3) in ([400], [400, 400])


@pytest.mark.parametrize(("version", "status"), [("1.1", 400), ("1.0", 200)])
def test_a_host_is_named_since_there_are_many(target: Target, version: str, status: int) -> None:
    assert target.raw(b"GET /livez HTTP/%s\r\n\r\n" % version.encode()) == [status]


def test_a_head_over_its_limit_is_refused_at_once(target: Target) -> None:
    """Nothing more has to come, and the refusal arrives although more does."""
    head = HEAD + LENGTH + b"X-A: "
    filled = head + b"a" * (MAX_HEAD_BYTES - len(head))
    assert target.raw(filled + b"\r\n\r\n" + BODY) == [200]
    assert target.raw(filled + b"a") == [431]
    assert target.raw(filled + b"a\r\n\r\n" + BODY) == [431]
    assert target.raw(filled + b"a" * 2_000_000) == [431]


@pytest.mark.parametrize(
    "lines",
    [
        b"a:\r\n" * 15_000,
        b"X-A: " + b"a" * 60_000 + b"\r\n",
        b"X-%s: a\r\n" % (b"a" * 60_000),
        b"Cookie: " + b"a=b; " * 12_000 + b"\r\n",
        b"Accept: " + b"a/b;q=0.1," * 6_000 + b"\r\n",
        b"X-Request-Id: " + MARK.encode() * 1_000 + b"\r\n",
        b"X-Request-Id: a\xff\xfe" + MARK.encode() + b"\r\n",
        b"\r\n".join(b"Upgrade%s: h2c" % (b" " * 0) for _ in range(100)) + b"\r\n",
    ],
    ids=["many", "long value", "long name", "cookies", "accept", "request id", "odd request id", "upgrades"],
)
def test_heads_within_the_limit_do_no_harm(target: Target, lines: bytes) -> None:
    with target.watched() as slowest:
        assert target.raw(HEAD + lines + LENGTH + b"\r\n" + BODY)[0] in (200, 400)
    assert slowest() < 5


@pytest.mark.parametrize("at", range(1, 5))
@pytest.mark.parametrize("size", [0, MAX_HEAD_BYTES - 200])
def test_a_head_may_end_in_two_pieces_with_a_long_body_behind(target: Target, at: int, size: int) -> None:
    body = json.dumps({"input": "a", "unknown": "x" * 200_000}).encode()
    head = HEAD + b"X-A: %s\r\nContent-Length: %d\r\n\r\n" % (b"a" * size, len(body))
    assert target.raw(head[:-at], head[-at:] + body) == [200]


def test_a_head_may_end_byte_by_byte(target: Target) -> None:
    end = [bytes([byte]) for byte in b"\r\n\r\n"]
    assert target.raw(HEAD + LENGTH[:-2], *end, BODY) == [200]


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n" % KEY.encode(),
        b"POST /v1/embeddings HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=["live", "models", "bodies"],
)
def test_a_flood_on_one_connection_is_read_no_faster_than_it_is_answered(target: Target, request_: bytes) -> None:
    """It takes no memory, and others are answered meanwhile: 10 MB of heads once took 900 MB, and 11 s of the loop."""
    before = target.megabytes()
    data = request_ * (8_000_000 // len(request_))
    with target.watched() as slowest, Raw(target.port) as raw:
        raw.socket.settimeout(2)
        with contextlib.suppress(TimeoutError, ConnectionError):
            raw.send(data)
        target.assert_well()
    target.assert_well()  # now that the connection is gone
    assert target.megabytes() < before + 100
    assert slowest() < 5


def test_a_thousand_pipelined_requests_are_answered_in_order(target: Target) -> None:
    one = b"GET /v1/models HTTP/1.1\r\nHost: a\r\nApi-Key: %s\r\nX-Request-Id: number-%d\r\n\r\n"
    with Raw(target.port) as raw:
        data = b"".join(one % (KEY.encode(), i) for i in range(1_000))
        sending = threading.Thread(target=raw.send, args=(data,))
        sending.start()
        for i in range(1_000):
            status, headers, _ = raw.reply()
            assert (status, headers["x-request-id"]) == (200, f"number-{i}")
        sending.join()


def test_chunks_of_one_byte_by_the_million(target: Target) -> None:
    """Space around JSON is no error, so all of it is read; and nobody waits for it."""
    before = target.megabytes()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"1\r\n \r\n" * 500_000 + b"0\r\n\r\n"
    with target.watched() as slowest:
        assert target.raw(HEAD + CHUNKED + b"\r\n" + chunks) == [200]
    assert target.megabytes() < before + 100
    assert slowest() < 5


def test_chunks_without_end_are_cut_off(target: Target) -> None:
    chunk = b"10000\r\n" + b" " * 65_536 + b"\r\n"
    with Raw(target.port) as raw, contextlib.suppress(ConnectionError):
        raw.send(HEAD + CHUNKED + b"\r\n")
        for _ in range(1_000):
            raw.send(chunk)
        pytest.fail("64 MB of a body were read")


PATHS = [
    *("/..;/livez", "/%2e%2e/livez", "//livez", "/%2Flivez", "/livez%00", "/livez/", "/livez;a=b", "/livez%20"),
    *("/livez%0A", "/readyz%0a", "/metrics%0a", "/metrics%0A%0a", "/docs%0a", "/openapi.json%0A"),
    *("/docs/assets/..%2f..%2fpages.py", "/docs/assets/%2e%2e", "/docs/assets/swagger-ui.css%0a"),
    *("/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd", "/v1/models/" + "a" * 8_000, "/v1/models/" + "%2F" * 8_000),
    *("/" + "/" * 60_000, "/v1/models/" + "%" * 30_000, "/v2/models" + "/versions/a" * 5_000 + "/ready"),
    *("/v1/models/%ED%A0%80", "/v1/models/%F0%9F%98%80", "/v1/models/%EF%BF%BF", "/v1/models/{0.__class__}"),
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40])
def test_a_path_is_what_it_says(target: Target, path: str) -> None:
    """Nothing but the very path is answered: what a proxy in front has closed stays closed."""
    with target.watched() as slowest:
        assert target.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nApi-Key: {KEY}\r\n\r\n".encode()) == [404]
    assert slowest() < 5


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        ("GET http://elsewhere/livez", [200]),
        ("GET http://user:word@elsewhere:99999999/livez", [400]),
        ("GET https://[::1/livez", [400]),
        ("GET livez", [400]),
        ("GET ?a", [400]),
        ("OPTIONS *", [404]),
        ("CONNECT localhost:1", [400]),
        ("CONNECT /livez", [400]),
        ("TRACE /livez", [405]),
        ("PURGE /livez", [405]),
        ("get /livez", [400]),
        ("NONSENSE /livez", [400]),
        ("GET\t/livez\t", [400]),
        ("GET /livez?" + "a=b&" * 15_000, [200]),
        ("GET /livez?" + "%41" * 20_000, [200]),
        ("GET /v1/models?" + "a=b&" * 15_000 + "key=" + KEY, [401]),
    ],
    ids=lambda value: str(value)[:40],
)
def test_methods_and_targets(target: Target, line: str, statuses: list[int]) -> None:
    with target.watched() as slowest:
        assert target.raw(f"{line} HTTP/1.1\r\nHost: a\r\n\r\n".encode()) == statuses
    assert slowest() < 5


def test_nonsense_from_many_connections(target: Target) -> None:
    for i in range(200):
        with socket.create_connection(("127.0.0.1", target.port), timeout=10) as one:
            one.sendall(bytes([i, 255 - i, 13, 10]) * (i % 7 + 1))
