"""Whether a device can be had, and what is missing if not: said before a session is opened.

ONNX Runtime says it by a line in its own log and goes on without the device: a session that was asked for CUDA runs on
the CPU, a hundred times slower. So everything that it needs is looked at first, from the wheel to the device itself.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import metadata
from typing import NamedTuple

from service.device_name import DeviceName, Target, parse
from service.errors import StartupError
from service.runtime import wheel
from service.runtime.driver import Driver, DriverFault, NoDevice, read_driver

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

_REINSTALL = "pip uninstall -y onnxruntime onnxruntime-gpu, then pip install 'embedserve[gpu]'"
_DRIVER = "install it; a container is shown it by `docker run --gpus all` (NVIDIA container toolkit)"
_SHOW = "set CUDA_VISIBLE_DEVICES to what `nvidia-smi -L` lists, or unset it; for a container, `docker run --gpus all`"
_INSTALL = "pip install 'embedserve[gpu]' brings them, or name their folder in LD_LIBRARY_PATH"
_TENSORRT = "pip install 'tensorrt-cu13-libs<11', or name TensorRT's folder in LD_LIBRARY_PATH; or take --device cuda"


class Obstacle(NamedTuple):
    """Why a device cannot be had, and what to do about it."""

    reason: str
    remedy: str


class Choice(NamedTuple):
    """A device that can be had, and why it is this one: for a line in the log."""

    device: DeviceName
    because: str


class Facts:
    """What preflight looks at; each is looked up when it is first needed."""

    def wheels(self) -> dict[str, str]:
        """Installed distributions of ONNX Runtime → their versions."""
        return installed_wheels()

    def providers(self) -> Sequence[str]:
        """That this ONNX Runtime was built with."""
        return wheel.available_providers()

    def cuda_version(self) -> str | None:
        """That it was built for: "13.0"."""
        return wheel.cuda_version()

    def driver(self) -> Driver:
        """Raises DriverFault."""
        return read_driver()

    def load(self, provider: str) -> str | None:
        """The dynamic linker's words where the provider's library cannot be loaded."""
        return wheel.load_provider(provider)


FACTS = Facts()


def obstacle(device: DeviceName, facts: Facts = FACTS) -> Obstacle | None:
    """The first that is found, in the order in which they are mended."""
    if device.kind == "cpu":
        return None
    return _wheel(device, facts) or _driver(device, facts) or _libraries(device, facts)


def require(device: DeviceName, facts: Facts = FACTS) -> None:
    """Raises StartupError where it cannot be had."""
    if found := obstacle(device, facts):
        raise StartupError(f"the device {device} cannot be had: {found.reason}", found.remedy)


def choose(wish: str, target: Target, facts: Facts = FACTS) -> Choice:
    """The device for a bundle of that target. Raises StartupError where it is not the one that was wished for."""
    wished = parse(wish)
    device = wished or DeviceName(target)
    if device.kind != target:
        reason = f"the bundle is compiled for {target}, and the device is to be {device}"
        raise StartupError(reason, f"compile it again with --target {device.kind}, or leave --device out")
    require(device, facts)
    if wished:
        return Choice(device, "it was asked for")
    if target != "cpu":
        return Choice(device, f"the bundle is compiled for {target}")
    missing = obstacle(DeviceName("cuda"), facts)
    gpu = f"CUDA cannot be had: {missing.reason}" if missing else "the bundle is compiled for it; CUDA could be had"
    return Choice(device, gpu)


def targets_for(wish: str, *, precision: str | None = None, facts: Facts = FACTS) -> tuple[Target, ...]:
    """What to compile for where nothing is compiled yet, the best first: for `auto` CUDA, if it can be had and
    `precision` with it, or else the CPU, as some models are for that alone.

    Raises StartupError where an explicit wish cannot be had: better than after minutes of compiling.
    """
    wished = parse(wish)
    if wished:
        require(wished, facts)
        return (wished.kind,)
    return ("cpu",) if precision == "int8" or obstacle(DeviceName("cuda"), facts) else ("cuda", "cpu")


def gpu_name(device: DeviceName, facts: Facts = FACTS) -> str | None:
    """None for a CPU."""
    return None if device.kind == "cpu" else facts.driver().gpus[device.number].name


def installed_wheels() -> dict[str, str]:
    """Distributions that bring ONNX Runtime's folder, which only one of them can own."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def both_wheels(facts: Facts = FACTS) -> Obstacle | None:
    """Two wheels in one folder: whichever came last has overwritten the other's files."""
    wheels = facts.wheels()
    if len(wheels) < 2:
        return None
    names = " and ".join(f"{name} {version}" for name, version in wheels.items())
    reason = f"{names} are both installed: they unpack into the same folder, where the later has overwritten the other"
    return Obstacle(reason, _REINSTALL)


def _wheel(device: DeviceName, facts: Facts) -> Obstacle | None:
    provider, found = PROVIDERS[device.kind], facts.providers()
    if provider in found:
        return None
    names = ", ".join(f"{name} {version}" for name, version in facts.wheels().items()) or "this ONNX Runtime"
    return both_wheels(facts) or Obstacle(f"{names} has no {provider} (it has {', '.join(found)})", _REINSTALL)


def _driver(device: DeviceName, facts: Facts) -> Obstacle | None:
    try:
        driver = facts.driver()
    except NoDevice as error:
        return Obstacle(f"{error}{_visible()}", _SHOW)
    except DriverFault as error:
        return Obstacle(str(error), _DRIVER)
    if device.number >= len(driver.gpus):
        return Obstacle(f"the driver shows {_count(driver)}{_visible()}", "name one of those; they count from 0")
    needed = facts.cuda_version()
    if needed and driver.cuda[0] < int(needed.partition(".")[0]):
        ours = ".".join(map(str, driver.cuda))
        reason = f"NVIDIA's driver runs CUDA up to {ours}, and this ONNX Runtime is built for {needed}"
        return Obstacle(reason, "install a newer driver, or an older onnxruntime-gpu")
    return None


def _libraries(device: DeviceName, facts: Facts) -> Obstacle | None:
    if missing := facts.load(PROVIDERS["cuda"]):
        return Obstacle(f"CUDA's libraries are not all here: {missing}", _INSTALL)
    if device.kind == "tensorrt" and (missing := facts.load(PROVIDERS["tensorrt"])):
        return Obstacle(f"TensorRT's libraries are not here: {missing}", _TENSORRT)
    return None


def _count(driver: Driver) -> str:
    names = ", ".join(f"{i}: {gpu.name}" for i, gpu in enumerate(driver.gpus))
    devices = "1 device" if len(driver.gpus) == 1 else f"{len(driver.gpus)} devices"
    return f"{devices} ({names})" if names else "no device"


def _visible() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f", with CUDA_VISIBLE_DEVICES={visible}"
