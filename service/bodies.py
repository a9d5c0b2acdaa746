"""Bytes of request bodies that are held, of all connections together. The event loop owns the count.

What a request takes of memory is a few times its body: the text that is parsed from it, its tokens, its chunks. All of
it is let go of with the answer, and so is the body; so what bodies take bounds what requests take.

A client may stop before its body is whole. It has its time to go on, but not at others' cost: where there is no room,
those go first that are furthest behind.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.errors import Overloaded
from service.patience import SLOWEST

_RETRY_AFTER = 1.0  # seconds
_BEHIND = 0.1  # of a client's time: who is so far behind makes room


class Arrival:
    """A body that is coming, and the time that its client has. Times are the event loop's.

    A client that sends SLOWEST bytes a second has time without end. One that was faster has saved up nothing: whoever
    stops is waited for as long as one that never began.
    """

    __slots__ = ("_let_go", "_patience", "due", "is_cut")

    def __init__(self, now: float, patience: float, let_go: Callable[[], None]) -> None:
        """`patience` in seconds. `let_go` is called where it has to make room: nothing of it is held any more."""
        self._patience = patience
        self._let_go = let_go
        self.due = now + patience  # when its client is too slow
        self.is_cut = False

    def came(self, size: int, now: float) -> None:
        """So many bytes of it."""
        self.due = min(self.due + size / SLOWEST, now + self._patience)

    @property
    def is_behind_from(self) -> float:
        """When it will be one that makes room."""
        return self.due - (1 - _BEHIND) * self._patience

    def cut(self) -> None:
        """It makes room."""
        self.is_cut = True
        self._let_go()


class Bodies:
    """How much is held, and how much may be."""

    __slots__ = ("_arriving", "held", "limit")

    def __init__(self, limit: float = math.inf) -> None:
        """`limit` in bytes."""
        self.limit = limit
        self.held = 0
        self._arriving: set[Arrival] = set()

    def check(self, size: int, own: int = 0) -> None:
        """Before so many bytes more are read, for a request that has `own` ones already. Where nothing else is held any
        number may be. Raises Overloaded."""
        while self.held > own and self.held + size > self.limit:
            if not self._make_room():
                message = f"The server holds {self.held} bytes of requests, and may hold {self.limit:.0f}."
                raise Overloaded(message, _RETRY_AFTER)

    def take(self, size: int) -> None:
        """So many more."""
        self.held += size

    def give_back(self, size: int) -> None:
        """So many less."""
        self.held -= size

    @contextmanager
    def expecting(self, arrival: Arrival) -> Iterator[None]:
        """While the block is, it may have to make room."""
        self._arriving.add(arrival)
        try:
            yield
        finally:
            self._arriving.discard(arrival)

    def _make_room(self) -> bool:
        slowest = min(self._arriving, key=lambda one: one.due, default=None)
        if slowest is None or slowest.is_behind_from > asyncio.get_running_loop().time():
            return False
        self._arriving.remove(slowest)
        slowest.cut()
        return True
