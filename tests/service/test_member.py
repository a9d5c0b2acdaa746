"""A process among several, where the others cannot be reached."""

from __future__ import annotations

import asyncio
import os
import resource
import socket

from service import channel
from service.channel import CLIENT, Membership
from service.ledger import Ledger
from service.member import Member


def test_without_a_file_to_ask_the_others_by_it_shows_its_own_metrics() -> None:
    ours, theirs = channel.pair()
    member = Member(Membership(theirs.detach(), Ledger.make().file, 1, 3, 0, {"url": "http://localhost"}))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def ask() -> tuple[bytes, str]:
        files = [os.open(os.devnull, os.O_RDONLY)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (files[0] + 3, limits[1]))  # less than two pairs
        try:
            return await member.metrics_of_all("")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(files[0])

    with ours:
        body, _ = asyncio.run(ask())
    assert b'embedserve_ready{process="1"}' in body
    assert b'process="0"' not in body


def test_the_end_does_not_wait_for_a_handshake_that_does_not_end() -> None:
    ours, theirs = channel.pair()
    member = Member(Membership(theirs.detach(), Ledger.make().file, 1, 3, 0, {"url": "http://localhost"}))

    async def end() -> None:
        begun = asyncio.Event()

        async def take(connection: socket.socket) -> None:
            with connection:
                begun.set()
                await asyncio.Event().wait()

        member.begin({CLIENT: take}, lambda: None, lambda: None)
        with socket.socket() as connection:
            channel.send(ours, CLIENT, [connection.fileno()])
        await begun.wait()
        await asyncio.wait_for(member.finish(0.01), 10)

    with ours:
        asyncio.run(end())
