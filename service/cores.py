"""How many cores this process may use: those it may be scheduled on, and no more than its container's quota.

Formats: Linux's documentation of cgroup v2 (cpu.max: "quota period" in microseconds, or "max") and of v1's CFS
bandwidth control (cpu.cfs_quota_us, -1 for none, and cpu.cfs_period_us).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from service.cgroups import groups, words

_FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")


def usable_cores(root: Path = Path("/")) -> int:
    """At least 1. Part of a core is left to the event loop: a quota of 2.5 makes two."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """In cores."""
    for folder in groups("cpu", root):
        found = [word for name in _FILES for word in words(folder / name)]
        if len(found) == 2 and all(word.isdigit() for word in found) and int(found[1]) > 0:  # neither "max" nor -1
            yield int(found[0]) / int(found[1])
