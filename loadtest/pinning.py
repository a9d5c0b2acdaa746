"""Which cores a process runs on: so that a load generator takes from the server what it is known to take."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence


def cores() -> list[int]:
    """Those that this process may run on; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextlib.contextmanager
def on_cores(wanted: Sequence[int]) -> Iterator[None]:
    """For this thread, and for the processes that it starts meanwhile. No core at all leaves everything as it is."""
    if not wanted:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
