"""Lines keep their order, whichever way they take, and nobody waits for who reads them."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.line_writer import ROOM, LineWriter
from service.logs import LOGGER, configure, event, finish, lost_lines, request_event, say

PATIENCE = 60.0  # seconds


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    names = ("embedserve", "embedserve.stdout", "uvicorn", "uvicorn.error", "asyncio")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.handlers, one.level, one.propagate) for one in loggers]
    yield
    finish()
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_lines_of_requests_and_others_keep_their_order(capfd: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    request_event({"number": 1})
    request_event({"number": 2})
    event(logging.WARNING, "another", number=3)
    request_event({"number": 4})
    event(logging.INFO, "the last", number=5)
    finish()
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["level"] for line in lines] == ["info", "info", "warning", "info", "info"]
    assert [line["message"] for line in lines] == ["request", "request", "another", "request", "the last"]
    assert len({frozenset(line) for line in lines}) == 1


def test_a_higher_level_leaves_them_out(capfd: pytest.CaptureFixture[str]) -> None:
    configure("warning", "json")
    request_event({"number": 1})
    say("on stdout, whatever the level")
    finish()
    assert capfd.readouterr() == ("on stdout, whatever the level\n", "")


@pytest.mark.parametrize("form", ["json", "text"])
def test_exceptions_are_told(capfd: pytest.CaptureFixture[str], form: str) -> None:
    configure("info", form)  # type: ignore[arg-type]
    try:
        raise ValueError("a reason")
    except ValueError:
        LOGGER.exception("it failed", extra={"fields": {"request_id": "abc"}})
    finish()
    told = capfd.readouterr().err
    assert "it failed" in told
    assert "abc" in told
    assert "ValueError: a reason" in told


def test_a_full_disk_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        configure("info", "json")
    for number in range(3):
        event(logging.INFO, "lost", number=number)
    finish()
    assert lost_lines() == 3


def test_a_closed_stderr_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure("info", "json")
    event(logging.INFO, "lost")


def test_what_an_unread_pipe_does_not_take_is_lost_and_told_of_at_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read) as pipe:
        with os.fdopen(write, "w") as stream:
            monkeypatch.setattr(sys, "stderr", stream)
            configure("info", "json")
        sent = 3 * ROOM // 1000
        for number in range(sent):
            request_event({"number": number, "padding": "x" * 1000})
        lost = lost_lines()
        assert lost > 0
        due = told = 0
        while due < sent:  # told of more than once where the thread took some of them meanwhile
            line = json.loads(pipe.readline())
            if "lost" in line:
                assert line["level"] == "warning"
                told += line["lost"]
                due += line["lost"]
            else:
                assert line["number"] == due
                due += 1
        assert (due, told) == (sent, lost)
        request_event({"number": sent})
        assert json.loads(pipe.readline())["number"] == sent
        assert lost_lines() == lost


def test_the_end_does_not_wait_for_an_unread_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        configure("info", "json")
        for number in range(300):
            request_event({"number": number, "padding": "x" * 1000})
        finish()


def test_lines_of_two_that_share_a_pipe_do_not_mix() -> None:
    """As those of several processes behind one port."""
    reads, writes = os.pipe()
    writers = [LineWriter(writes, "a-writer", lambda _: b"") for _ in range(2)]
    os.close(writes)
    lines = [bytes([letter]) * (100 + 13 * (number % 29)) + b"\n" for letter in b"ab" for number in range(2000)]
    for first, second in zip(lines[:2000], lines[2000:], strict=True):
        writers[0].put(first)
        writers[1].put(second)
    closing = [threading.Thread(target=one.close, args=(PATIENCE,)) for one in writers]
    for one in closing:
        one.start()
    with open(reads, "rb") as pipe:
        assert sorted(pipe.readlines()) == sorted(lines)
    for one in closing:
        one.join()
