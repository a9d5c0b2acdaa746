"""Threads that run batches for the event loop, woken through pipes.

Reading and writing a pipe releases the interpreter's lock, so that the thread that is woken finds it free. A
`ThreadPoolExecutor` wakes while it holds it, and both sides then wait for each other: on one core a hand-over to it and
back took 53 to 66 µs of CPU, and 8 this way, which a batch of short texts pays as often as its whole run.

A byte wakes somebody up and says no more: what there is to do or to deliver is in the queues. So a byte too many is
harmless, and a thread into which somebody throws an exception (`PyThreadState_SetAsyncExc`) rings twice rather than
never, hands over what it had as failed, and goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from service.errors import InferenceError

Result = TypeVar("Result")

_MANY = 4096  # bytes read at once
# Windows' event loop has no readers; there a result takes the slower way.
_HAS_READERS = sys.platform != "win32"

_INTERRUPTED = InferenceError("the executor's thread was interrupted")

Then = Callable[[Result, BaseException | None], None]


@dataclass(slots=True, eq=False)
class _Task:
    """What to do, whom to tell, and what came of it."""

    work: Callable[[], Any]
    then: Then[Any]
    result: Any = None
    error: BaseException | None = _INTERRUPTED

    def run(self) -> None:
        try:
            self.result = self.work()
            self.error = None
        except BaseException as raised:  # noqa: BLE001 - belongs to those who wait for the result
            self.error = raised

    def tell(self) -> None:
        self.then(self.result, self.error)


class Executors:
    """`start` and `close` belong to the event loop's thread, where results arrive as well."""

    def __init__(self, threads: int, name: str) -> None:
        """They begin with the first thing to do."""
        self._count, self._name = threads, name
        self._given: deque[_Task] = deque()
        self._done: deque[_Task] = deque()
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], Result], then: Then[Result]) -> None:
        """Does it on the next thread that is free, and calls `then(result, error)` on the event loop."""
        if not self._threads:
            self._begin()
        self._given.append(_Task(work, then))
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
        self._threads = [threading.Thread(target=self._stay, name=name, daemon=True) for name in names]
        for thread in self._threads:
            thread.start()

    def _stay(self) -> None:
        """On a thread, until `close`: whatever is thrown into it."""
        while True:
            try:
                self._work()
                return
            except BaseException:  # noqa: BLE001 - it came from outside, and may have taken a byte with it
                self._recover()

    def _recover(self) -> None:
        with contextlib.suppress(OSError):  # it is being closed
            os.write(self._wake, b"+")
            self._tell()

    def _work(self) -> None:
        """On a thread: a byte says that there may be something to do."""
        while os.read(self._wakes, 1):
            try:
                task = self._given.popleft()
            except IndexError:  # a byte too many
                continue
            try:
                task.run()
            finally:
                self._done.append(task)
                self._tell()
            del task  # nothing is kept alive while this thread waits

    def _tell(self) -> None:
        os.write(self._ring, b"+")
        if not _HAS_READERS:
            self._loop.call_soon_threadsafe(self._collect)

    def _collect(self) -> None:
        """On the event loop."""
        os.read(self._rings, _MANY if _HAS_READERS else 1)
        self._deliver()

    def _deliver(self) -> None:
        """What is there now and no more: what ends meanwhile waits for the event loop's next turn."""
        for _ in range(len(self._done)):
            task = self._done.popleft()
            try:
                task.tell()
            except BaseException:
                self._loop.call_soon(self._deliver)  # the others' results do not suffer from it
                raise
