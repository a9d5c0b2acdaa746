"""NVIDIA's driver, asked directly: which devices it shows this process, before anything depends on them.

Functions and result codes: NVIDIA's CUDA Driver API (cuInit, cuDriverGetVersion, cuDeviceGetCount, cuDeviceGetName,
cuDeviceTotalMem). Nothing here opens a context, so nothing takes memory on a device.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, NamedTuple

LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE of cuda.h


class Gpu(NamedTuple):
    """One device; `memory` in bytes."""

    name: str
    memory: int


class Driver(NamedTuple):
    """`cuda` is the newest version of CUDA that it runs: (12, 4)."""

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


class DriverFault(Exception):
    """The driver is missing or gives up; its text says why."""


class NoDevice(DriverFault):
    """The driver is there, and shows this process no device."""


def read_driver(load: Callable[[str], Any] = ctypes.CDLL) -> Driver:
    """Raises DriverFault. Milliseconds where there is no driver, tenths of a second where there is one."""
    try:
        library = load(LIBRARY)
    except OSError as error:
        raise DriverFault(f"NVIDIA's driver is not installed ({error})") from error
    _call(library, "cuInit", ctypes.c_uint(0))
    version, count = ctypes.c_int(), ctypes.c_int()
    _call(library, "cuDriverGetVersion", ctypes.byref(version))
    _call(library, "cuDeviceGetCount", ctypes.byref(count))
    return Driver(
        (version.value // 1000, version.value % 1000 // 10), tuple(_gpu(library, i) for i in range(count.value))
    )


def _gpu(library: Any, index: int) -> Gpu:
    device, memory, name = ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(_NAME_BYTES)
    _call(library, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    _call(library, "cuDeviceGetName", name, ctypes.c_int(_NAME_BYTES), device)
    _call(library, "cuDeviceTotalMem_v2", ctypes.byref(memory), device)
    return Gpu(name.value.decode("utf-8", "replace"), memory.value)


def _call(library: Any, function: str, *arguments: Any) -> None:
    """Every one of them returns 0 for success."""
    code = getattr(library, function)(*arguments)
    if code == _NO_DEVICE:
        raise NoDevice(f"NVIDIA's driver shows this process no device: {function} says {code}, {_text(library, code)}")
    if code:
        raise DriverFault(f"NVIDIA's driver fails: {function} says {code}, {_text(library, code)}")


def _text(library: Any, code: int) -> str:
    text = ctypes.c_char_p()
    library.cuGetErrorString(code, ctypes.byref(text))
    return (text.value or b"an error without a text").decode("utf-8", "replace")
