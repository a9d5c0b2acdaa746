"""A low limit of open files leaves as many connections as there is room for, or the server does not start."""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.process import Raw, Server, command

LEFT = re.compile(r"the limit of \d+ open files leaves (\d+)")


def limited(tmp_path: Path, bundle: Path, files: int, *flags: str) -> Server:
    program = ["bash", "-c", 'ulimit -n "$0" && exec "$@"', str(files), *command()]
    return Server(tmp_path, [str(bundle), "--port", "0", *flags], program=program)


@pytest.mark.parametrize("flags", [(), ("--admin-port", "0")], ids=["one port", "two ports"])
def test_there_is_room_for_what_the_log_says(tmp_path: Path, bundle: Path, flags: tuple[str, ...]) -> None:
    server = limited(tmp_path, bundle, 256, *flags)
    try:
        server.wait_ready()
        found = LEFT.search(server.stderr())
        assert found
        assert 50 < int(found[1]) < 200
        with ExitStack() as stack:
            for _ in range(int(found[1])):
                raw = stack.enter_context(Raw(server.port))
                raw.post(b'{"input": "a"}')
                assert raw.reply()[0] == 200
            with Raw(server.port) as one_more:
                one_more.post(b'{"input": "a"}')
                assert one_more.reply()[0] == 503
            for _ in range(100):  # most of these are closed at once
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            raw.post(b'{"input": "a"}')
            assert raw.reply()[0] == 200
        assert "Too many open files" not in server.stderr()
    finally:
        server.stop()


def test_a_limit_that_leaves_nothing_is_a_reason_not_to_start(tmp_path: Path, bundle: Path) -> None:
    server = limited(tmp_path, bundle, 100)
    assert server.wait() == 1
    reason, remedy = server.stderr().strip().splitlines()[-2:]
    assert reason == "embedserve: the limit of 100 open files leaves none for clients"
    assert "ulimit -n" in remedy
    assert "Traceback" not in server.stderr()
