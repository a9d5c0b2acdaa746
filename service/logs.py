"""Structured logs on stderr: one JSON object a line, or text for people. Never inputs, never keys."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

LOGGER = logging.getLogger("embedserve")


class _Lines(logging.StreamHandler[TextIO]):
    """Writes lines in the order in which they came. Those of requests wait for the end of the event loop's turn, so
    that the requests which are answered together take one write; any other line takes them with it."""

    def __init__(self, form: Literal["json", "text"]) -> None:
        super().__init__(sys.stderr)
        self._line = _json_line if form == "json" else _text_line
        self._waiting: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging, which holds the lock."""
        fields = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": logging.Formatter().formatException(record.exc_info)}
        self._waiting.append(self._line(record.created, record.levelname, record.getMessage(), fields))
        self.flush()

    def put(self, message: str, fields: Mapping[str, object], loop: asyncio.AbstractEventLoop) -> None:
        """A line at INFO that may wait."""
        line = self._line(time.time(), "INFO", message, fields)
        self.acquire()
        self._waiting.append(line)
        is_first = len(self._waiting) == 1
        self.release()
        if is_first:
            loop.call_soon(self.flush)

    def flush(self) -> None:
        """Writes what waits. Lines that cannot be written are lost: a full disk must not fail a request."""
        self.acquire()
        try:
            lines, self._waiting = self._waiting, []
            if lines and self.stream is not None:  # None: the process was started with stderr closed
                self.stream.write("".join(lines))
            super().flush()
        except (OSError, ValueError):
            pass
        finally:
            self.release()


def _json_line(created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
    line = {"time": _time(created), "level": level.lower(), "message": message, **fields}
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE).decode()


def _text_line(created: float, level: str, message: str, fields: Mapping[str, object]) -> str:
    fields = dict(fields)
    exception = fields.pop("exception", None)
    told = " ".join(f"{name}={value}" for name, value in fields.items())
    when = f"{datetime.fromtimestamp(created):%Y-%m-%d %H:%M:%S},{int(created * 1000) % 1000:03d}"
    line = f"{when} {level:<7} {message} {told}".rstrip()
    return f"{line}\n{exception}\n" if exception else f"{line}\n"


def _time(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Sends this project's and uvicorn's logs to stderr in one form."""
    handler = _Lines(form)
    for name in ("embedserve", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers = [handler] if name != "uvicorn.error" else []
        logger.setLevel(level.upper() if name == "embedserve" else logging.WARNING)
        logger.propagate = name == "uvicorn.error"


def event(level: int, message: str, **fields: object) -> None:
    """One log line with fields of its own."""
    LOGGER.log(level, message, extra={"fields": fields})


def request_event(fields: Mapping[str, object], loop: asyncio.AbstractEventLoop) -> None:
    """The line of a request, at INFO: `event` in effect, at a fraction of what logging's own way takes."""
    if LOGGER.isEnabledFor(logging.INFO):
        for handler in LOGGER.handlers:
            if isinstance(handler, _Lines):
                handler.put("request", fields, loop)
