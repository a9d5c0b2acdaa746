"""Who is using something that is about to go. The event loop owns it."""

from __future__ import annotations

import asyncio


class Usage:
    """A count, and a way to wait until it is 0."""

    __slots__ = ("_count", "_unused")

    def __init__(self) -> None:
        self._count = 0
        self._unused: asyncio.Event | None = None

    def begin(self) -> None:
        """One more."""
        self._count += 1

    def end(self) -> None:
        """One less."""
        self._count -= 1
        if not self._count and self._unused is not None:
            self._unused.set()

    async def over(self) -> None:
        """Until nobody uses it. Nobody may begin any more."""
        self._unused = asyncio.Event()
        if self._count:
            await self._unused.wait()
