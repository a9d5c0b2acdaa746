"""A driver of NVIDIA's for machines without one, at the lowest seam: the functions that ctypes would call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service.runtime.driver import Driver, DriverFault, Gpu
from service.runtime.preflight import Facts

H100 = Gpu("NVIDIA H100 80GB HBM3", 80 * 2**30)
TWO_OF_THEM = Driver((13, 1), (H100, H100))


@dataclass
class FakeLibrary:
    """libcuda.so.1 with these devices; `fails` names a function and the code that it returns."""

    gpus: Sequence[Gpu] = (H100,)
    version: int = 13000
    fails: tuple[str, int] | None = None

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if self.fails and self.fails[0] == name:
                return self.fails[1]
            getattr(self, f"_{name}")(*arguments)
            return 0

        if not name.startswith("cu"):
            raise AttributeError(name)
        return call

    def _cuInit(self, flags: Any) -> None:
        assert flags.value == 0

    def _cuDriverGetVersion(self, found: Any) -> None:
        found._obj.value = self.version

    def _cuDeviceGetCount(self, found: Any) -> None:
        found._obj.value = len(self.gpus)

    def _cuDeviceGet(self, found: Any, index: Any) -> None:
        found._obj.value = index.value

    def _cuDeviceGetName(self, name: Any, size: Any, device: Any) -> None:
        assert ctypes.sizeof(name) == size.value
        name.value = self.gpus[device.value].name.encode()

    def _cuDeviceTotalMem_v2(self, found: Any, device: Any) -> None:
        found._obj.value = self.gpus[device.value].memory

    def _cuGetErrorString(self, code: int, found: Any) -> None:
        texts = {100: b"no CUDA-capable device is detected", 802: b"system not yet initialized"}
        found._obj.value = texts.get(code)


class FakeFacts(Facts):
    """A machine on which all is well, but for what a test says."""

    def __init__(
        self,
        *,
        wheels: Sequence[str] = ("onnxruntime-gpu",),
        providers: Sequence[str] = ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
        driver: Driver | str = TWO_OF_THEM,
        missing: dict[str, str] | None = None,
        cuda_version: str | None = "13.0",
    ) -> None:
        self._wheels, self._providers, self._driver = wheels, providers, driver
        self._missing, self._cuda_version = missing or {}, cuda_version

    def wheels(self) -> dict[str, str]:
        return dict.fromkeys(self._wheels, "1.31.1")

    def providers(self) -> Sequence[str]:
        return self._providers

    def cuda_version(self) -> str | None:
        return self._cuda_version

    def driver(self) -> Driver:
        if isinstance(self._driver, str):
            raise DriverFault(self._driver)
        return self._driver

    def load(self, provider: str) -> str | None:
        return self._missing.get(provider)
