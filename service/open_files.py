"""How many files and connections a process may have open at once."""

from __future__ import annotations

import os
import sys


def raise_limit() -> int | None:
    """The soft limit becomes the hard one, which is the administrator's; gives it. None where there is none."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard == resource.RLIM_INFINITY:
        return None
    wanted = min(hard, _ENOUGH) if hard != resource.RLIM_INFINITY else _ENOUGH
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def open_files() -> int:
    """How many this process has open now."""
    return len(os.listdir("/dev/fd"))


_ENOUGH = 1_048_576  # what Linux allows a process by default at most (fs.nr_open)
