"""What Linux's control groups say of this process. Formats: Linux's documentation of cgroup v1 and v2.

Limits of all groups above a process hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Folders of the groups that this process is in, with those above them. In a container the mounted tree begins at
    its own group, whatever its path is called outside: that is the last folder."""
    mounted = root / "sys/fs/cgroup"
    for line in _lines(root / "proc/self/cgroup"):
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and controller not in controllers.split(","):
            continue
        tree = mounted / controllers if controllers else mounted
        inner = PurePosixPath(path.lstrip("/"))
        for group in (inner, *inner.parents):
            yield tree / group


def words(file: Path) -> list[str]:
    """Empty where there is no such file: on other systems, or in another version of cgroups."""
    return [word for line in _lines(file) for word in line.split()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8").splitlines()
    except OSError:
        return []
