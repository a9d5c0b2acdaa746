"""What is to be sent, and the thread that sends it: bounded, in batches, and never in anybody's way. Knows of no spans.

A collector may be slow, or gone. Then the outbox is full after a while, and what comes is dropped and counted. The
event loop counts what it drops, the thread what it sends, so that no number has two writers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Outbox(Generic[Item]):
    """`put` and `close` belong to the event loop."""

    def __init__(
        self, send: Callable[[Sequence[Item]], int], size: Callable[[Item], int], room: int, batch: int, delay: float
    ) -> None:
        """`send` blocks, raises nothing, and says how many spans were taken. `size` counts an item's; `room` of them
        may wait, of which `batch` or those of one item are sent at once, after `delay` seconds at the latest."""
        self._send, self._size = send, size
        self._room, self._batch, self._delay = room, batch, delay
        self._waiting: deque[tuple[Item, int]] = deque()
        self._added = 0  # spans, written by the event loop
        self._taken = 0  # written by the thread
        self.sent = self.failed = self.dropped = 0  # spans
        self._enough = threading.Event()
        self._is_closing = False
        self._thread = threading.Thread(target=self._work, name="telemetry", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> bool:
        """Whole, or not at all, and says which. One larger than the room is taken where nothing waits."""
        size, waiting = self._size(item), self.waiting
        if self._is_closing or (waiting and waiting + size > self._room):
            self.dropped += size
            return False
        self._added += size
        self._waiting.append((item, size))
        if self.waiting >= self._batch:
            self._enough.set()
        return True

    @property
    def waiting(self) -> int:
        """Spans, those that are being sent left out."""
        return self._added - self._taken

    @property
    def unsent(self) -> int:
        """Spans of which nothing is known yet: those that wait, and those that are being sent."""
        return self._added - self.sent - self.failed

    def close(self, seconds: float) -> None:
        """Sends what waits, for so long at most; blocks. Nothing is taken any more, and what is left counts as failed,
        as far as it is known by then."""
        self._is_closing = True
        self._enough.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        """On the thread."""
        while not self._is_closing:
            self._enough.wait(self._delay)
            self._enough.clear()
            self._send_some()
            while self.waiting >= self._batch:
                self._send_some()
        while self._waiting:
            self._send_some()

    def _send_some(self) -> None:
        items: list[Item] = []
        size = 0
        while self._waiting and (not items or size + self._waiting[0][1] <= self._batch):
            item, spans = self._waiting.popleft()
            items.append(item)
            size += spans
        self._taken += size
        if not items:
            return
        taken = self._send(items)
        self.sent += taken
        self.failed += size - taken
