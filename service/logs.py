"""Structured logs on stderr: one JSON object a line, or text for people. Never inputs, never keys."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO

import orjson

from service.line_writer import LineWriter

LOGGER = logging.getLogger("embedserve")
_STDOUT = logging.getLogger("embedserve.stdout")
_LAST_SECONDS = 1.0  # for what is still unwritten at the end, where nobody may be reading any more
_FIRST_SECONDS = 0.2  # the same, where a line on stdout should come behind those on stderr

Form = Callable[[float, str, str, Mapping[str, object]], bytes]


class _Lines(logging.Handler):
    """Lines of one form, in the order in which they come. None of them waits for who reads."""

    def __init__(self, stream: TextIO | None, form: Form) -> None:
        """`stream` is None where the process was started without; a test's may have no file either."""
        super().__init__()
        self._form = form
        self._writer: LineWriter | None = None
        if stream is not None:
            self._writer = LineWriter(stream.fileno(), f"log-{stream.fileno()}", self._lost_line)

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        fields = getattr(record, "fields", {})
        if record.exc_info:
            fields = {**fields, "exception": logging.Formatter().formatException(record.exc_info)}
        self._put(record.created, record.levelname, record.getMessage(), fields)

    def put(self, message: str, fields: Mapping[str, object]) -> None:
        """A line at INFO, without logging's own way to here."""
        self._put(time.time(), "INFO", message, fields)

    @property
    def lost(self) -> int:
        """Lines that could not be written."""
        return self._writer.lost if self._writer else 0

    def settle(self, seconds: float) -> None:
        """Waits until all lines are written, so long at most."""
        if self._writer:
            self._writer.settle(seconds)

    def close(self) -> None:
        """Likewise, and for good. Called by logging at the end of the process."""
        if self._writer:
            self._writer.close(_LAST_SECONDS)
        super().close()

    def _put(self, created: float, level: str, message: str, fields: Mapping[str, object]) -> None:
        if self._writer:
            self._writer.put(self._form(created, level, message, fields))

    def _lost_line(self, count: int) -> bytes:
        message = f"{count} lines were lost: nobody read them, or they could not be written"
        return self._form(time.time(), "WARNING", message, {"lost": count})


def _json_line(created: float, level: str, message: str, fields: Mapping[str, object]) -> bytes:
    line = {"time": _time(created), "level": level.lower(), "message": message, **fields}
    return orjson.dumps(line, default=str, option=orjson.OPT_APPEND_NEWLINE)


def _text_line(created: float, level: str, message: str, fields: Mapping[str, object]) -> bytes:
    fields = dict(fields)
    exception = fields.pop("exception", None)
    told = " ".join(f"{name}={value}" for name, value in fields.items())
    when = f"{datetime.fromtimestamp(created):%Y-%m-%d %H:%M:%S},{int(created * 1000) % 1000:03d}"
    line = f"{when} {level:<7} {message} {told}".rstrip()
    return (f"{line}\n{exception}\n" if exception else f"{line}\n").encode(errors="backslashreplace")


def _time(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")


def _bare_line(created: float, level: str, message: str, fields: Mapping[str, object]) -> bytes:
    return f"{message}\n".encode(errors="backslashreplace")


def configure(level: str, form: Literal["json", "text"]) -> None:
    """Sends this project's, uvicorn's and asyncio's logs to stderr in one form. `finish` belongs to it."""
    lines = _Lines(sys.stderr, _json_line if form == "json" else _text_line)
    for name in ("embedserve", "uvicorn", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [lines] if name != "uvicorn.error" else []
        logger.setLevel(level.upper() if name == "embedserve" else logging.WARNING)
        logger.propagate = name == "uvicorn.error"
    _STDOUT.handlers = [_Lines(sys.stdout, _bare_line)]
    _STDOUT.setLevel(logging.INFO)
    _STDOUT.propagate = False


def finish() -> None:
    """Writes the last lines, if somebody takes them soon; there are no others after them."""
    for handler in _handlers():
        handler.close()


def lost_lines() -> int:
    """How many could not be written to stderr or stdout, so far."""
    return sum(handler.lost for handler in _handlers())


def say(line: str) -> None:
    """A line for people on stdout, behind those that were logged before it, where those are read."""
    for handler in _handlers():
        handler.settle(_FIRST_SECONDS)
    _STDOUT.info(line)


def event(level: int, message: str, **fields: object) -> None:
    """One log line with fields of its own."""
    LOGGER.log(level, message, extra={"fields": fields})


def request_event(fields: Mapping[str, object]) -> None:
    """The line of a request, at INFO: `event` in effect, at a fraction of what logging's own way takes."""
    if LOGGER.isEnabledFor(logging.INFO):
        for handler in LOGGER.handlers:
            if isinstance(handler, _Lines):
                handler.put("request", fields)


def _handlers() -> list[_Lines]:
    return [one for one in (*LOGGER.handlers, *_STDOUT.handlers) if isinstance(one, _Lines)]
