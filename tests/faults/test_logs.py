"""Log lines that are not taken: by a full disk, a closed pipe, or a pipe that is open and that nobody reads."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Golden
from tests.e2e.process import Raw, Server

MANY = 4000  # requests whose lines are more than may wait
SOME = 400  # whose lines are more than a pipe holds


@contextmanager
def serving(bundle: Path, folder: Path, output: int) -> Iterator[Server]:
    """A server whose stdout and stderr are `output`, which is closed here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    server = Server(folder, [str(bundle), "--port", str(port)], output=output)
    os.close(output)
    try:
        server.wait_answering(port)
        yield server
    finally:
        server.stop()


def closed_pipe() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


@pytest.mark.parametrize("opened", [lambda: os.open("/dev/full", os.O_WRONLY), closed_pipe], ids=["full", "closed"])
def test_logs_that_cannot_be_written_fail_nobody(
    bundle: Path, tmp_path: Path, golden: Golden, opened: Callable[[], int]
) -> None:
    """Nor the start, nor the end: the exit status is 0."""
    with serving(bundle, tmp_path, opened()) as server:
        assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
        assert server.metric("embedserve_lost_log_lines") > 0
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def flood(server: Server, first: int, count: int) -> None:
    """Requests that are answered one after the other, each with a long line in the log that has its number."""
    with Raw(server.port) as raw:
        for start in range(first, first + count, 100):
            numbers = range(start, start + 100)
            heads = [f"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Request-Id: {number:0128}\r\n\r\n" for number in numbers]
            raw.send("".join(heads).encode())
            assert {raw.reply()[0] for _ in numbers} == {404}


def full_pipe() -> tuple[int, int]:
    """Its ends; it takes nothing more until something was read."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"\n" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write


def test_a_pipe_that_nobody_reads_holds_up_nobody(bundle: Path, tmp_path: Path, golden: Golden) -> None:
    """From the start on, under requests, and at the end. When it is read, it says how many lines are missing."""
    read, write = full_pipe()
    with os.fdopen(read) as pipe, serving(bundle, tmp_path, write) as server:
        flood(server, 0, MANY)
        lost = server.metric("embedserve_lost_log_lines")
        assert lost > 0
        assert server.http.get("/livez").status_code == 200
        assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
        told, numbers = read_until_told(pipe)
        assert 0 < told - lost <= 2  # golden texts' own line as well
        assert numbers == list(range(len(numbers)))
        flood(server, MANY, SOME)  # nobody reads them
        server.assert_well()
        server.signal(signal.SIGTERM)
        assert server.wait() == 0


def read_until_told(pipe: Any) -> tuple[int, list[int]]:
    """How many lines were lost, and the numbers of the requests whose lines come before that."""
    numbers: list[int] = []
    while True:
        line = pipe.readline()
        if not line.startswith("{"):
            continue  # what filled the pipe; the line for people
        found = json.loads(line)
        if "lost" in found:
            return int(found["lost"]), numbers
        if found["message"] == "request" and found["route"] != "/v1/embeddings":
            numbers.append(int(found["request_id"]))
