"""A wish for another protocol is ignored, and changes nothing about where its request ends."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e.process import Raw
from tests.hostile.target import KEY, MARK, Target

START = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n" % KEY.encode()
WISH = b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"
BODY = json.dumps({"input": MARK}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
GOOD = START + WISH + LENGTH + b"\r\n" + BODY
CHUNKED = START + b"Transfer-Encoding: chunked\r\n" + WISH + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
PLAIN = START + LENGTH + b"\r\n" + BODY
SMUGGLED = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"

WISHES = {
    "once": WISH,
    "twice": b"Upgrade: h2c\r\n" + WISH,
    "a hundred times": b"Upgrade: h2c\r\n" * 100 + WISH,
    "in capitals": WISH.replace(b"Upgrade:", b"UPGRADE:"),
    "without a space": WISH.replace(b"Upgrade: ", b"uPGRADE:"),
    "behind its token": b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    "of nothing": b"Upgrade:\r\nConnection: upgrade\r\n",
}


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
def test_a_body_that_looks_like_a_request_is_a_body(target: Target, wish: bytes) -> None:
    """It comes when the head has been read already."""
    head = START + wish + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    with Raw(target.port) as raw:
        raw.send(head)
        time.sleep(0.05)
        raw.send(SMUGGLED + PLAIN)
        for status in (400, 200):
            replied, headers, _ = raw.reply()
            assert (replied, headers["x-request-id"] == "smuggled") == (status, False)


@pytest.mark.parametrize("wish", WISHES.values(), ids=WISHES)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_a_good_request_is_answered(target: Target, wish: bytes, version: bytes) -> None:
    sent = (START + wish + LENGTH).replace(b"HTTP/1.1", b"HTTP/" + version) + b"\r\n" + BODY
    replies = 2 if version == b"1.1" else 1
    assert target.raw(sent + PLAIN, replies=2) == [200] * replies


def test_a_head_may_come_in_any_two_pieces(target: Target) -> None:
    with Raw(target.port) as raw:
        for at in range(len(START) - 5, len(GOOD)):
            raw.send(GOOD[:at])
            time.sleep(0.002)
            raw.send(GOOD[at:])
            assert raw.reply()[0] == 200


@pytest.mark.parametrize("sent", [GOOD, CHUNKED], ids=["length", "chunks"])
def test_byte_by_byte(target: Target, sent: bytes) -> None:
    with Raw(target.port) as raw:
        for byte in sent:
            raw.send(bytes([byte]))
            time.sleep(0.000_2)
        assert raw.reply()[0] == 200
        raw.send(PLAIN)
        assert raw.reply()[0] == 200


@pytest.mark.parametrize("size", range(8_180, 8_200))
def test_a_name_may_lie_across_the_pieces_that_the_parser_gets(target: Target, size: int) -> None:
    """A write of over 8 KiB is parsed in pieces of that size."""
    head = START + b"X-A: "
    head += b"a" * (size - len(head) - 6) + b"\r\n" + WISH + LENGTH + b"\r\n"
    assert target.raw(head + BODY + PLAIN, replies=2) == [200, 200]


def test_requests_that_are_sent_ahead(target: Target) -> None:
    assert target.raw(GOOD + CHUNKED + PLAIN + GOOD + CHUNKED, replies=5) == [200] * 5


def test_hundreds_of_wishes_without_a_body_in_one_write(target: Target) -> None:
    wish = b"GET /livez HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n"
    assert target.raw(wish * 300, replies=300) == [200] * 300


@pytest.mark.parametrize(
    "lines",
    [
        b"Upgrade: h2c\r\nConnection: a,\r\n Upgrade\r\n",
        b"Upgrade : h2c\r\nConnection: Upgrade\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n",
    ],
    ids=["folded", "space before the colon", "length and chunks", "two lengths"],
)
def test_what_is_not_one_request_is_none(target: Target, lines: bytes) -> None:
    head = START + lines + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED)
    assert target.raw(head + SMUGGLED, SMUGGLED, replies=3) == [400]


@pytest.mark.parametrize("where", [b"localhost:1", b"/livez", b"/v1/embeddings"])
def test_nothing_behind_a_connect_is_read(target: Target, where: bytes) -> None:
    head = b"CONNECT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (where, len(SMUGGLED))
    assert target.raw(head + SMUGGLED, SMUGGLED, replies=3) == [400]
    assert target.raw(head, SMUGGLED, replies=3) == [400]
