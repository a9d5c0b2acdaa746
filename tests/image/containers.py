"""Containers by podman's command line, with no more rights than the image needs.

podman's usual settings ask for more than a virtual machine may have: its own limit of open files, systemd's cgroups,
the journal. What is set here asks for less, and takes nothing of what confines a container.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.e2e.process import PATIENCE, wait_until

_SETTINGS = """\
[containers]
cgroupns = "host"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"""
CONFINED = (
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--memory", "1g", "--memory-swap", "1g"),
)
# No higher than this machine's own; podman would ask for a million.
_FILES = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 2**20)
LIMITS = ("--ulimit", f"nofile={_FILES}:{_FILES}", "--ulimit", "nproc=4096:4096")


@functools.cache
def environment() -> dict[str, str]:
    """Of podman's commands."""
    folder = Path(tempfile.mkdtemp(prefix="podman-"))
    (folder / "containers.conf").write_text(_SETTINGS, "utf-8")
    return {**os.environ, "CONTAINERS_CONF": str(folder / "containers.conf")}


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command. Raises AssertionError with podman's words where it fails."""
    done = subprocess.run(
        ["podman", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert not check or done.returncode == 0, (
        f"podman {' '.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )
    return done


class Container:
    """One of the image on this machine's network, on loopback."""

    def __init__(
        self, image: str, *words: str, options: Sequence[str] = CONFINED, env: Mapping[str, str] | None = None
    ) -> None:
        """`words` take the place of the image's CMD."""
        variables = [word for name, value in (env or {}).items() for word in ("--env", f"{name}={value}")]
        command = ["create", "--pull", "never", "--no-healthcheck", "--network", "host", "--interactive"]
        self.name = podman(*command, *LIMITS, *options, *variables, image, *words).stdout.strip()
        podman("start", self.name)

    def inspect(self) -> Any:
        """What podman knows of it."""
        return json.loads(podman("inspect", self.name).stdout)[0]

    def is_running(self) -> bool:
        """Whether its first process has not ended."""
        return bool(self.inspect()["State"]["Running"])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A command within it."""
        return podman("exec", self.name, *command, check=False)

    def signal(self, name: str) -> None:
        """To its first process."""
        podman("kill", "--signal", name, self.name)

    def wait(self) -> int:
        """Its exit status."""
        wait_until(lambda: not self.is_running(), f"the end of {self.name}; {self.logs()}")
        return int(self.inspect()["State"]["ExitCode"])

    def logs(self) -> str:
        """Both of its streams."""
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def remove(self) -> None:
        """Whether or not it runs."""
        podman("rm", "--force", "--time", "0", "--ignore", self.name)
