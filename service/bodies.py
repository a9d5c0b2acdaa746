"""Bytes of request bodies that are held, of all connections together. The event loop owns the count.

What a request takes of memory is a few times its body: the text that is parsed from it, its tokens, its chunks. All of
it is let go of with the answer, and so is the body; so what bodies take bounds what requests take.
"""

from __future__ import annotations

import math

from service.errors import Overloaded

_RETRY_AFTER = 1.0  # seconds


class Bodies:
    """How much is held, and how much may be."""

    __slots__ = ("held", "limit")

    def __init__(self, limit: float = math.inf) -> None:
        """`limit` in bytes."""
        self.limit = limit
        self.held = 0

    def check(self, size: int) -> None:
        """Before so many bytes more are read. Where nothing is held any number may be. Raises Overloaded."""
        if self.held and self.held + size > self.limit:
            message = f"The server holds {self.held} bytes of requests, and may hold {self.limit:.0f}."
            raise Overloaded(message, _RETRY_AFTER)

    def take(self, size: int) -> None:
        """So many more."""
        self.held += size

    def give_back(self, size: int) -> None:
        """So many less."""
        self.held -= size
