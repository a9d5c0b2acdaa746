"""What those who wait have in common, be it for a thread that tokenises or for the runtime."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from service.errors import DeadlineExceeded

_TICK = 0.005  # seconds at least between two looks at all deadlines


def check(deadline: float | None, now: float) -> None:
    """Raises DeadlineExceeded where it has passed; `now` is the event loop's time. None: there is none."""
    if deadline is not None and deadline <= now:
        raise _exceeded()


def _exceeded() -> DeadlineExceeded:
    return DeadlineExceeded("The request was not finished within its time.")


class Deadlines:
    """Futures that fail when their time is over. One timer for all of them: nearly every one is done before that, and
    a timer of its own for each would cost more than this whole class."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[Any], float] = {}
        self._timer: asyncio.Handle | None = None
        self._due = math.inf  # when the timer rings

    def add(self, future: asyncio.Future[Any], deadline: float | None) -> None:
        """It fails with DeadlineExceeded at `deadline`, in the event loop's time, if it still waits; None: never."""
        if deadline is None:
            return
        self._waiting[future] = deadline
        if deadline < self._due:
            self._set_timer(future.get_loop(), deadline)

    def discard(self, future: asyncio.Future[Any]) -> None:
        """Nobody waits for it any more."""
        self._waiting.pop(future, None)

    def _set_timer(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # Its own `when()` cannot be asked: where the time is past already, uvloop's handle has none.
        self._timer, self._due = loop.call_at(when, self._expire, loop), when

    def _expire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer, self._due = None, math.inf
        now = loop.time()
        for future in [one for one, deadline in self._waiting.items() if deadline <= now]:
            del self._waiting[future]
            if not future.done():
                future.set_exception(_exceeded())
        if self._waiting:
            self._set_timer(loop, max(min(self._waiting.values()), now + _TICK))
