"""Whether a file is still the one that was read, without reading it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """Which file it is, its size in bytes, and when it was written to, in nanoseconds of Unix time."""

    file: int
    size: int
    written: int


def stamp(path: Path) -> Stamp | None:
    """Changes when the file is rewritten or replaced, as Kubernetes replaces mounted secrets. None where there is no
    such file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns)
