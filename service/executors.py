"""Threads that run batches for the event loop, woken through pipes.

Reading and writing a pipe releases the interpreter's lock, so that the thread that is woken finds it free. A
`ThreadPoolExecutor` wakes while it holds it, and both sides then wait for each other: on one core a hand-over to it and
back took 53 to 66 µs of CPU, and 8 this way, which a batch of short texts pays as often as its whole run.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar("Result")

_MANY = 4096  # bytes read at once, one for each result
# Windows' event loop has no readers; there a result takes the slower way.
_HAS_READERS = sys.platform != "win32"

Then = Callable[[Result, BaseException | None], None]


class Executors:
    """`start` and `close` belong to the event loop's thread, where results arrive as well."""

    def __init__(self, threads: int, name: str) -> None:
        """They begin with the first thing to do."""
        self._count, self._name = threads, name
        self._given: deque[tuple[Callable[[], Any], Then[Any]]] = deque()
        self._done: deque[tuple[Then[Any], Any, BaseException | None]] = deque()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], Result], then: Then[Result]) -> None:
        """Does it on the next thread that is free, and calls `then(result, error)` on the event loop."""
        if not self._threads:
            self._begin()
        self._given.append((work, then))
        os.write(self._wake, b"+")

    def close(self) -> None:
        """Waits for what is under way. Nothing may be started any more."""
        if not self._threads:
            return
        os.close(self._wake)
        for thread in self._threads:
            thread.join()
        if _HAS_READERS and not self._loop.is_closed():
            self._loop.remove_reader(self._rings)
        for end in (self._wakes, self._rings, self._ring):
            os.close(end)

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._wakes, self._wake = os.pipe()
        self._rings, self._ring = os.pipe()
        if _HAS_READERS:
            self._loop.add_reader(self._rings, self._collect)
        # Daemons, because a process that ends without `close` must not wait for them for ever.
        names = [f"{self._name}_{i}" for i in range(self._count)]
        self._threads = [threading.Thread(target=self._work, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        """On a thread: one byte is one thing to do."""
        while os.read(self._wakes, 1):
            work, then = self._given.popleft()
            result, error = None, None
            try:
                result = work()
            except BaseException as raised:  # noqa: BLE001 - belongs to those who wait for the result
                error = raised
            self._done.append((then, result, error))
            os.write(self._ring, b"+")
            if not _HAS_READERS:
                self._loop.call_soon_threadsafe(self._collect)
            del work, then, result, error  # nothing is kept alive while this thread waits

    def _collect(self) -> None:
        """On the event loop: one byte is one result."""
        self._deliver(len(os.read(self._rings, _MANY if _HAS_READERS else 1)))

    def _deliver(self, results: int) -> None:
        """So many and no more: what ends meanwhile waits for the event loop's next turn."""
        for left in range(results - 1, -1, -1):
            then, result, error = self._done.popleft()
            try:
                then(result, error)
            except BaseException:
                self._loop.call_soon(self._deliver, left)  # the others' results do not suffer from it
                raise
