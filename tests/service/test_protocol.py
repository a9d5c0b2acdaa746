"""Replies in one write, and when a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from functools import partial

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service.exchange import Exchange, header_lines
from service.protocol import LimitedProtocol, State


def test_one_line_a_header() -> None:
    assert header_lines([("a", "1"), ("b", "2 3")]) == "\r\na: 1\r\nb: 2 3"


@pytest.mark.parametrize("bad", ["\r\nset-cookie: x", "\n", "\r", "\0"])
def test_no_header_becomes_two(bad: str) -> None:
    for headers in ([("a", f"1{bad}")], [("b", "2"), (f"a{bad}", "1")]):
        with pytest.raises(ValueError, match="line break"):
            header_lines(headers)


@contextlib.asynccontextmanager
async def connected(
    app: ASGIApp, keep_alive: float, state: State | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to our protocol on a free port, within the test's own event loop."""
    config = uvicorn.Config(app, ws="none", lifespan="off", log_config=None)
    config.timeout_keep_alive = keep_alive  # type: ignore[assignment]  # any number of seconds, whatever it says
    make = partial(LimitedProtocol, config, state or State(), {})
    async with await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()


async def _slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes as long as the path says, in tenths of a second."""
    await asyncio.sleep(int(scope["path"][1:]) / 10)
    await Exchange.of(scope).reply(200, [("content-length", "2")], b"ok")


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_what_is_more_than_one_write_comes_whole_and_before_the_next_reply(size: int) -> None:
    body = [b"first", b"a" * size, b"b" * size, b"last"]
    whole = b"".join(body)

    async def replies(scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange.of(scope).reply(200, [("content-length", str(len(whole)))], body[0], body[1:])

    async def main() -> None:
        async with connected(replies, keep_alive=5.0) as (reader, writer):
            for method in (b"GET", b"HEAD", b"GET"):
                writer.write(method + b" / HTTP/1.1\r\nhost: a\r\n\r\n")
            for expected in (whole, b"", whole):
                head = await reader.readuntil(b"\r\n\r\n")
                assert f"content-length: {len(whole)}".encode() in head
                assert await reader.readexactly(len(expected)) == expected

    asyncio.run(main())


def test_a_connection_is_closed_when_it_is_idle_and_not_while_a_request_is_slow() -> None:
    async def main() -> None:
        async with connected(_slow, keep_alive=1.0) as (reader, writer):
            for tenths in (0, 15, 0):
                writer.write(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % tenths)
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n")
                assert await reader.readexactly(2) == b"ok"
            assert await asyncio.wait_for(reader.read(), 30) == b""

    asyncio.run(main())


def test_pipelined_requests_are_answered_in_order() -> None:
    async def main() -> None:
        async with connected(_slow, keep_alive=30) as (reader, writer):
            writer.write(
                b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\nHEAD /0 HTTP/1.1\r\nhost: a\r\n\r\nGET /1 HTTP/1.0\r\n\r\n"
            )
            said = await asyncio.wait_for(reader.read(), 30)
        replies = said.split(b"HTTP/1.1 200 OK\r\n")
        assert replies == [
            b"",
            b"content-length: 2\r\n\r\nok",
            b"content-length: 2\r\n\r\n",
            b"content-length: 2\r\nconnection: close\r\n\r\nok",
        ]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (b"no request at all\r\n\r\n", b"400 Bad Request"),
        (b"GET /0 HTTP/1.1\r\nx: " + b"y" * 100_000, b"431 Request Header Fields Too Large"),
        (b"POST /0 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nno length\r\n", b"400 Bad Request"),
    ],
    ids=["head", "large head", "body"],
)
@pytest.mark.parametrize("before", [0, 1, 2])
def test_what_cannot_be_read_is_refused_after_what_was_asked_before(bad: bytes, status: bytes, before: int) -> None:
    """The first reply is taken for the first request's, whatever it says."""

    async def main() -> None:
        async with connected(_slow, keep_alive=30) as (reader, writer):
            writer.write(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n" * before + bad)
            said = await asyncio.wait_for(reader.read(), 30)
        _, *replies = said.split(b"HTTP/1.1 ")
        assert [one.partition(b"\r\n")[0] for one in replies] == [b"200 OK"] * before + [status]

    asyncio.run(main())


def test_while_draining_a_reply_ends_its_connection_after_what_was_sent_already() -> None:
    async def main() -> None:
        state = State()
        async with connected(_slow, keep_alive=30, state=state) as (reader, writer):
            writer.write(b"GET /0 HTTP/1.1\r\nhost: a\r\n\r\n")
            assert b"connection: close" not in await reader.readuntil(b"ok")
            writer.write(b"GET /5 HTTP/1.1\r\nhost: a\r\n\r\nGET /0 HTTP/1.1\r\nhost: a\r\n\r\n")
            state.is_draining = True
            said = await asyncio.wait_for(reader.read(), 30)
        assert [b"connection: close" in one for one in said.split(b"HTTP/1.1 200 OK\r\n")] == [False, False, True]

    asyncio.run(main())


def test_what_was_answered_leaves_nothing_for_the_garbage_collector() -> None:
    """Or bodies would stay in memory until it comes by, and it would come by more often."""

    async def main() -> int:
        async with connected(_slow, keep_alive=30) as (reader, writer):
            for _ in range(20):
                writer.write(b"GET /0 HTTP/1.1\r\nhost: a\r\n\r\n")
                await reader.readuntil(b"ok")
            return sum(isinstance(one, Exchange) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(main()) <= 1
    finally:
        gc.enable()
