"""What those who wait have in common, be it for a thread that tokenises or for the runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import DeadlineExceeded

_RETRY_AFTER = (1.0, 60.0)


@contextmanager
def expiring(future: asyncio.Future[Any], deadline: float | None) -> Iterator[None]:
    """Within it, the future fails with DeadlineExceeded at `deadline`, in the event loop's time; None: never."""
    timer = None if deadline is None else asyncio.get_running_loop().call_at(deadline, _expire, future)
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()


def _expire(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(DeadlineExceeded("The request was not finished within its time."))


def retry_after(seconds: float) -> float:
    """Seconds until what waits is done → those that a client is told: not at once, and not so long as to give up."""
    return min(max(seconds, _RETRY_AFTER[0]), _RETRY_AFTER[1])
