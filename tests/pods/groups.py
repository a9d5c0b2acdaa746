"""What the kernel counted and enforced for a container: its control groups, of either version.

Formats: Linux's documentation of cgroup v1 (memory.rst, CFS bandwidth) and v2.
"""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


def memory_limit(pid: int) -> int:
    """Bytes."""
    return int(_read(pid, "memory", "memory.limit_in_bytes", "memory.max"))


def resident(pid: int) -> int:
    """Bytes of memory that belong to no file."""
    return _keyed(pid, "memory.stat", "memory.stat", ("total_rss", "anon"))


def killed_for_memory(pid: int) -> int:
    """Processes of its group."""
    return _keyed(pid, "memory.oom_control", "memory.events", ("oom_kill",))


def cores(pid: int) -> float:
    """Those that its quota allows."""
    folder = _folder(pid, "cpu")
    if (folder / "cpu.max").exists():
        quota, period = (folder / "cpu.max").read_text().split()
    else:
        quota, period = (_read(pid, "cpu", f"cpu.cfs_{one}_us", "") for one in ("quota", "period"))
    return int(quota) / int(period)


def cpu_seconds(pid: int) -> float:
    """Of all processes of its group, so far."""
    folder = _folder(pid, "cpuacct")
    if (folder / "cpuacct.usage").exists():
        return int((folder / "cpuacct.usage").read_text()) / 1e9
    words = dict(line.split() for line in (folder / "cpu.stat").read_text("utf-8").splitlines())
    return int(words["usage_usec"]) / 1e6


def process_status(pid: int) -> dict[str, str]:
    """/proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def writable_mounts(pid: int) -> set[str]:
    """Where the process sees file systems that may be written to (proc(5), mountinfo: the sixth word says it)."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text("utf-8").splitlines()
    return {words[4] for words in map(str.split, lines) if "rw" in words[5].split(",")}


def _folder(pid: int, controller: str) -> Path:
    """Of its group in that controller's tree, or in the only tree of version 2."""
    for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(",") and (found := _ROOT / controller / path.lstrip("/")).exists():
            return found
        if not names and (found := _ROOT / path.lstrip("/")).exists() and (found / "cgroup.controllers").exists():
            return found
    raise AssertionError(f"process {pid} has no group of {controller}")


def _read(pid: int, controller: str, first: str, second: str) -> str:
    folder = _folder(pid, controller)
    return (folder / (first if (folder / first).exists() else second)).read_text("utf-8").strip()


def _keyed(pid: int, first: str, second: str, keys: tuple[str, ...]) -> int:
    """The number behind the first of these words."""
    lines = _read(pid, "memory", first, second).splitlines()
    return next(int(value) for name, value in map(str.split, lines) if name in keys)
