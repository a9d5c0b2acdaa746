"""Containers by podman's command line, as a rendered security context and its limits ask for them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from tests.image.containers import LIMITS, environment
from tests.pods.objects import NotConfigured, Object, Unsupported
from tests.pods.quantities import number

_SECONDS = 60
_CPU_PERIOD = 100_000  # microseconds, as the kubelet's


def podman(*arguments: str, seconds: float = _SECONDS, check: bool = True) -> subprocess.CompletedProcess[str]:
    """One command. Raises CalledProcessError, which says what podman said, and TimeoutExpired."""
    command = ["podman", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=seconds, env=environment(), check=False
    )
    if check and done.returncode:
        raise PodmanError(done.returncode, command, done.stdout, done.stderr)
    return done


class PodmanError(subprocess.CalledProcessError):
    """With podman's words."""

    def __str__(self) -> str:
        return f"{super().__str__()} {self.stderr}"


def user_of(image: str) -> str:
    """Whom its processes run as, if nobody says otherwise. Raises NotConfigured where there is no such image."""
    if podman("image", "exists", image, check=False).returncode:
        raise NotConfigured(f"ErrImageNeverPull: {image} is not in podman's storage")
    return podman("image", "inspect", "--format", "{{.User}}", image).stdout.strip()


def security(pod: Object, container: Object) -> list[str]:
    """podman's options for both security contexts: the container's own words count for more.

    Raises NotConfigured for a container that must not run as root and would, as the kubelet does.
    """
    told = {**pod["spec"].get("securityContext", {}), **container.get("securityContext", {})}
    options = ["--user", _user(told, container["image"])]
    for group in (*told.get("supplementalGroups", ()), *([told["fsGroup"]] if "fsGroup" in told else ())):
        options += ["--group-add", str(group)]
    if told.get("readOnlyRootFilesystem"):
        options += ["--read-only", "--read-only-tmpfs=false"]
    if not told.get("allowPrivilegeEscalation", True):
        options += ["--security-opt", "no-new-privileges"]
    if told.get("privileged"):
        options.append("--privileged")
    for word, podmans in (("drop", "--cap-drop"), ("add", "--cap-add")):
        for name in told.get("capabilities", {}).get(word, ()):
            options += [podmans, name]
    return [*options, *_seccomp(told)]


def _user(told: Object, image: str) -> str:
    user = str(told["runAsUser"]) if "runAsUser" in told else user_of(image)
    if told.get("runAsNonRoot") and not user.partition(":")[0].isdigit():
        raise NotConfigured(f"runAsNonRoot is set, and the image's user {user!r} is no number")
    if told.get("runAsNonRoot") and int(user.partition(":")[0]) == 0:
        raise NotConfigured("container has runAsNonRoot and image will run as root")
    return f"{user.partition(':')[0]}:{told['runAsGroup']}" if "runAsGroup" in told else user


def _seccomp(told: Object) -> list[str]:
    kind = told.get("seccompProfile", {}).get("type", "Unconfined")
    if kind == "RuntimeDefault":
        return []
    if kind == "Unconfined":
        return ["--security-opt", "seccomp=unconfined"]
    raise Unsupported(f"a seccomp profile {kind}")


def limits(container: Object) -> list[str]:
    """podman's options for its resources: no swap beside the memory, a quota of processor time, and a weight."""
    resources = container.get("resources", {})
    bounds, requests = resources.get("limits", {}), resources.get("requests", {})
    options: list[str] = []
    if "memory" in bounds:
        memory = str(int(number(bounds["memory"])))
        options += ["--memory", memory, "--memory-swap", memory]
    if "cpu" in bounds:
        options += ["--cpu-period", str(_CPU_PERIOD), "--cpu-quota", str(int(number(bounds["cpu"]) * _CPU_PERIOD))]
    if cpu := requests.get("cpu", bounds.get("cpu")):
        options += ["--cpu-shares", str(max(2, int(number(cpu) * 1024)))]
    return options


class Container:
    """One that was created; the kubelet makes a new one for every start."""

    def __init__(self, name: str, image: str, options: Sequence[str], words: Sequence[str]) -> None:
        """`words` take the place of the image's CMD."""
        self.name = name
        plain = ("--pull", "never", "--no-healthcheck", "--name", name)
        podman("create", *plain, *LIMITS, *options, image, *words)

    def start(self) -> None:
        """Returns when its first process runs."""
        podman("start", self.name)

    def wait(self) -> int:
        """Its exit status, when it has ended."""
        return int(podman("wait", self.name, seconds=3600).stdout.strip())

    def kill(self, signal: str) -> None:
        """If it still runs."""
        podman("kill", "--signal", signal, self.name, check=False)

    def execute(self, command: Sequence[str], seconds: float) -> int:
        """The exit status of a command within it. Raises TimeoutExpired."""
        return podman("exec", self.name, *command, seconds=seconds, check=False).returncode

    def logs(self) -> str:
        """Both of its streams."""
        done = podman("logs", self.name, check=False)
        return done.stdout + done.stderr

    def inspect(self) -> Any:
        """What podman knows of it."""
        return json.loads(podman("inspect", self.name).stdout)[0]

    @property
    def pid(self) -> int:
        """Of its first process, as this machine counts; 0 when it does not run."""
        return int(self.inspect()["State"]["Pid"])

    def changed_files(self) -> set[str]:
        """What differs from its image; mounts, and the folders that were made for them, left out."""
        mounts = [PurePosixPath(one["Destination"]) for one in self.inspect()["Mounts"]]
        made = {str(path) for mount in mounts for path in (mount, *mount.parents)}
        return {line.split(maxsplit=1)[1] for line in podman("diff", self.name).stdout.splitlines()} - made

    def remove(self) -> None:
        """Whether or not it runs."""
        podman("rm", "--force", "--time", "0", "--ignore", self.name)


def settle_environment(variables: Mapping[str, str]) -> list[str]:
    """podman's options."""
    return [option for name, value in variables.items() for option in ("--env", f"{name}={value}")]
