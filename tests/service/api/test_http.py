"""What becomes of a fault of ours."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

import pytest

from service.api import openai
from service.api.auth import Keys
from service.api.http import Call, Dialect, Endpoint, Operation, Reply, Service
from service.key_file import digest
from service.registry import Registry
from service.settings import Settings
from tests.service.test_protocol import connected

KEY = "sk-never-to-be-seen-0123456789"


def test_a_traceback_shows_no_key_and_what_was_spent_is_given_back(caplog: pytest.LogCaptureFixture) -> None:
    async def fails(call: Call) -> Reply:
        raise RuntimeError("a fault of ours")

    async def main() -> tuple[bytes, bytes]:
        keys = Keys([f"sha256:{digest(KEY).hex()} requests_per_minute=10"])
        service = Service(Registry(Settings()), Settings(), keys)
        operation = Operation("POST", ("/fails",), fails, "")
        app = Endpoint([operation], cast(Dialect, openai), service)
        async with connected(app, keep_alive=5.0) as (reader, writer):
            head = (
                f"POST /fails?key={KEY} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: 2\r\n\r\n"
            )
            writer.write(head.encode() + b"{}")
            told = await reader.readuntil(b"\r\n\r\n")
            length = int(told.lower().partition(b"content-length: ")[2].split()[0])
            return told, await reader.readexactly(length)

    with caplog.at_level(logging.DEBUG):
        head, body = asyncio.run(main())
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"x-ratelimit-remaining-requests: 10\r\n" in head
    assert "a fault of ours" in caplog.text
    assert "Traceback" in caplog.text
    for text in (caplog.text, head.decode(), body.decode()):
        assert KEY not in text
    assert b"a fault of ours" not in body
