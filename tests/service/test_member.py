"""A process among several, where the others cannot be reached."""

from __future__ import annotations

import asyncio
import os
import resource

from service import channel
from service.member import Member, Membership


def test_without_a_file_to_ask_the_others_by_it_shows_its_own_metrics() -> None:
    ours, theirs = channel.pair()
    member = Member(Membership(theirs.detach(), 1, 3, 0, {"url": "http://localhost"}))
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
