"""The CPU quota of a container, in both versions of cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cores import usable_cores


@pytest.fixture(autouse=True)
def sixteen_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)


def tree(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("max 100000", 16), ("400000 100000", 4), ("250000 100000", 2), ("50000 100000", 1), ("3200000 100000", 16)],
)
def test_a_container_of_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    assert usable_cores(tree(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota}\n"})) == cores


def test_the_least_quota_of_all_groups_above_holds(tmp_path: Path) -> None:
    files = {
        "sys/fs/cgroup/a.slice/cpu.max": "300000 100000\n",
        "sys/fs/cgroup/a.slice/b.scope/cpu.max": "max 100000\n",
        "sys/fs/cgroup/other/cpu.max": "100000 100000\n",
    }
    assert usable_cores(tree(tmp_path, "0::/a.slice/b.scope\n", files)) == 3


@pytest.mark.parametrize(("quota", "cores"), [("-1", 16), ("400000", 4), ("1000", 1)])
def test_a_container_of_version_1_whose_path_is_the_hosts(tmp_path: Path, quota: str, cores: int) -> None:
    groups = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n"
    files = {
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": f"{quota}\n",
        "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "sys/fs/cgroup/memory/cpu.max": "100000 100000\n",
    }
    assert usable_cores(tree(tmp_path, groups, files)) == cores


def test_without_cgroups_and_with_files_that_say_nothing(tmp_path: Path) -> None:
    assert usable_cores(tmp_path) == 16
    assert usable_cores(tree(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": "\n"})) == 16
