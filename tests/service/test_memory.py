"""The memory that a container may have, in both versions of cgroups."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from service.memory import limit


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(("said", "bytes_"), [("max", math.inf), ("536870912", 2**29)])
def test_a_container_of_version_2(tmp_path: Path, said: str, bytes_: float) -> None:
    assert limit(tree(tmp_path, "0::/\n", {"sys/fs/cgroup/memory.max": f"{said}\n"})) == bytes_


@pytest.mark.parametrize(("said", "bytes_"), [("9223372036854771712", math.inf), ("536870912", 2**29)])
def test_a_container_of_version_1(tmp_path: Path, said: str, bytes_: float) -> None:
    files = {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{said}\n", "sys/fs/cgroup/cpu/memory.max": "1\n"}
    assert limit(tree(tmp_path, "5:memory:/docker/abc\n4:cpu:/docker/abc\n", files)) == bytes_


def test_the_least_limit_of_all_groups_above_holds(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/a/memory.max": "3000\n", "sys/fs/cgroup/a/b/memory.max": "5000\n"}
    assert limit(tree(tmp_path, "0::/a/b\n", files)) == 3000


def test_without_cgroups(tmp_path: Path) -> None:
    assert limit(tmp_path) == math.inf
