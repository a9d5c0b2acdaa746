"""Whether a runtime works at all: asked of the runtime itself, as soon as it has failed on somebody's text.

A text that the runtime fails on says nothing about the next one, and a client who sends nothing else must not take a
server out of service. So after a failure a row that is known to work is run, and the runtime counts as failing only
when that fails too: until it works again, which is tried every second, as no requests come that could tell. The event
loop owns every field.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from service.errors import InferenceError, ServerBusy

PAUSE = 1.0  # seconds between two examinations


class Vitals:
    """Of one runtime. `probe` runs the known row, and raises InferenceError if that fails."""

    def __init__(self, probe: Callable[[], Awaitable[object]]) -> None:
        self._probe = probe
        self._is_suspect = False  # it has failed since it was examined last
        self._failing_since: float | None = None
        self._examination: asyncio.Task[None] | None = None
        self._is_closed = False

    def suspect(self) -> None:
        """It has failed on a row. Examines it, at most once in PAUSE, unless it is closed."""
        self._is_suspect = True
        if self._examination is None and not self._is_closed:
            self._examination = asyncio.get_running_loop().create_task(self._examine())

    def failing_for(self) -> float | None:
        """Seconds since it first failed on what is known to work; None where it works."""
        return None if self._failing_since is None else time.monotonic() - self._failing_since

    def close(self) -> None:
        """Ends an examination; none begins from now on, as what is still queued may fail but nothing can be asked."""
        self._is_closed = True
        if self._examination is not None:
            self._examination.cancel()

    async def _examine(self) -> None:
        try:
            while self._is_suspect or self._failing_since is not None:
                self._is_suspect = False
                await self._ask()
                await asyncio.sleep(PAUSE)
        finally:
            self._examination = None

    async def _ask(self) -> None:
        try:
            await self._probe()
        except InferenceError:
            self._failing_since = self._failing_since or time.monotonic()
        except ServerBusy:
            self._is_suspect = True  # nobody knows
        else:
            self._failing_since = None
