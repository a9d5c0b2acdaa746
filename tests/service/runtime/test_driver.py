"""What NVIDIA's driver is asked, and what is said when it does not answer."""

from __future__ import annotations

import pytest

from service.runtime.driver import Driver, DriverFault, Gpu, NoDevice, read_driver
from tests.service.runtime.fakes import H100, FakeLibrary


def test_devices_come_with_their_names_and_memory() -> None:
    gpus = (H100, Gpu("Tesla T4", 16 * 2**30))
    assert read_driver(lambda _: FakeLibrary(gpus, 12040)) == Driver((12, 4), gpus)


def test_no_driver_is_said_in_the_linkers_words() -> None:
    def missing(name: str) -> object:
        raise OSError(f"{name}: cannot open shared object file")

    with pytest.raises(DriverFault, match=r"driver is not installed \(libcuda\.so\.1: cannot open"):
        read_driver(missing)


def test_a_driver_that_fails_is_said_in_its_own_words() -> None:
    with pytest.raises(DriverFault, match="driver fails: cuInit says 802, system not yet initialized") as raised:
        read_driver(lambda _: FakeLibrary(fails=("cuInit", 802)))
    assert not isinstance(raised.value, NoDevice)


def test_a_driver_without_a_device_is_told_from_one_that_fails() -> None:
    with pytest.raises(NoDevice, match="no device: cuInit says 100, no CUDA-capable device is detected"):
        read_driver(lambda _: FakeLibrary(fails=("cuInit", 100)))


def test_a_code_that_the_driver_has_no_words_for() -> None:
    with pytest.raises(DriverFault, match="cuDeviceGetCount says 999, an error without a text"):
        read_driver(lambda _: FakeLibrary(fails=("cuDeviceGetCount", 999)))
