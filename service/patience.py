"""How long a connection waits for its client.

What the client owes is noted with the time at which it is overdue. A connection has one timer, which rings for what is
due first and moves only when something falls due before that: nearly everything comes in time, and costs no timer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

# Bytes a second, on the average, below which a client is too slow to be waited for any longer.
SLOWEST = 10_000


class Patience:
    """`overdue(what)` is called for what has not come in its time, and is not owed any more then."""

    __slots__ = ("_due", "_loop", "_overdue", "_rings_at", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, overdue: Callable[[str], None]) -> None:
        self._loop = loop
        self._overdue = overdue
        self._due: dict[str, float] = {}
        self._rings_at = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, what: str, seconds: float) -> None:
        """Within so many seconds from now, whatever was said of it before."""
        self._due[what] = due = self._loop.time() + seconds
        if due < self._rings_at:
            self._ring_at(due)

    def came(self, what: str) -> None:
        """It is not owed any more, if it was."""
        self._due.pop(what, None)

    def end(self) -> None:
        """Nothing is owed any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _ring_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = self._loop.call_at(when, self._ring), when

    def _ring(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self._loop.time()
        for what in [what for what, due in self._due.items() if due <= now]:
            if self._due.pop(what, None) is not None:
                self._overdue(what)
        if self._due and self._timer is None:
            self._ring_at(min(self._due.values()))
