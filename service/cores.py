"""How many cores this process may use: those it may be scheduled on, and no more than its container's quota.

Formats: Linux's documentation of cgroup v2 (cpu.max: "quota period" in microseconds, or "max") and of v1's CFS
bandwidth control (cpu.cfs_quota_us, -1 for none, and cpu.cfs_period_us). Quotas of all groups above a process hold.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CONTROLLER = "cpu"
_FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")


def usable_cores(root: Path = Path("/")) -> int:
    """At least 1. Part of a core is left to the event loop: a quota of 2.5 makes two."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([allowed, *_quotas(root)])))


def _quotas(root: Path) -> Iterator[float]:
    """In cores."""
    for folder in _groups(root):
        words = [word for name in _FILES for word in _words(folder / name)]
        if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]) > 0:  # neither "max" nor -1
            yield int(words[0]) / int(words[1])


def _groups(root: Path) -> Iterator[Path]:
    """Folders of the groups that this process is in, with those above them. In a container the mounted tree begins at
    its own group, whatever its path is called outside: that is the last folder."""
    mounted = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and _CONTROLLER not in controllers.split(","):
            continue
        tree = mounted / controllers if controllers else mounted
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield tree / group


def _words(file: Path) -> list[str]:
    return [word for line in _lines(file) for word in line.split()]


def _lines(file: Path) -> list[str]:
    """None where there is no such file: on other systems, or in another version of cgroups."""
    try:
        return file.read_text("utf-8").splitlines()
    except OSError:
        return []
