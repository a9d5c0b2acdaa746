"""Lines keep their order, whichever way they take."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.logs import LOGGER, configure, event, request_event


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    names = ("embedserve", "uvicorn", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(one, one.handlers, one.level, one.propagate) for one in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_lines_of_requests_and_others_keep_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        request_event({"number": 1}, loop)
        request_event({"number": 2}, loop)
        event(logging.WARNING, "another", number=3)
        request_event({"number": 4}, loop)
        await asyncio.sleep(0)
        event(logging.INFO, "the last", number=5)

    configure("info", "json")
    asyncio.run(main())
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["level"] for line in lines] == ["info", "info", "warning", "info", "info"]
    assert [line["message"] for line in lines] == ["request", "request", "another", "request", "the last"]
    assert len({frozenset(line) for line in lines}) == 1


def test_a_higher_level_leaves_them_out(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        request_event({"number": 1}, asyncio.get_running_loop())
        await asyncio.sleep(0)

    configure("warning", "json")
    asyncio.run(main())
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("form", ["json", "text"])
def test_exceptions_are_told(capsys: pytest.CaptureFixture[str], form: str) -> None:
    configure("info", form)  # type: ignore[arg-type]
    try:
        raise ValueError("a reason")
    except ValueError:
        LOGGER.exception("it failed", extra={"fields": {"request_id": "abc"}})
    told = capsys.readouterr().err
    assert "it failed" in told
    assert "abc" in told
    assert "ValueError: a reason" in told


def test_a_full_disk_fails_nobody() -> None:
    configure("info", "json")
    (handler,) = LOGGER.handlers
    assert isinstance(handler, logging.StreamHandler)
    # What was not written is tried once more when the file is closed.
    with contextlib.suppress(OSError), Path("/dev/full").open("w") as full:
        handler.setStream(full)
        event(logging.INFO, "lost")
        handler.setStream(sys.stderr)


def test_a_closed_stderr_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    configure("info", "json")
    event(logging.INFO, "lost")
