"""Memory that is of no use any more, given back to the system; and how much of it there may be."""

from __future__ import annotations

import ctypes
import gc
import math
from functools import cache
from pathlib import Path
from typing import Any

from service.cgroups import groups, words

_LIMITS = ("memory.max", "memory.limit_in_bytes")
_NO_LIMIT = 2**62  # bytes; cgroup v1 has no word for it, and says the largest number of whole pages


def release() -> None:
    """Collects what has cycles, what was frozen at the start included, and lets the C library return what it keeps
    for later: of a small model, replaced ten times, that was 160 MB. Every thread stands still for some 50 ms."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    if (trim := _trim()) is not None:
        trim(0)


@cache
def _trim() -> Any:
    """glibc's malloc_trim; None with another C library."""
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def limit(root: Path = Path("/")) -> float:
    """Bytes that this process's container may have, after which the kernel ends it; infinity where nothing says so."""
    found = [word for folder in groups("memory", root) for name in _LIMITS for word in words(folder / name)]
    return min((float(word) for word in found if word.isdigit() and int(word) < _NO_LIMIT), default=math.inf)
