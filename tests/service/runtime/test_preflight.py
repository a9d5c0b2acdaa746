"""Which device is chosen, and what is said about one that cannot be had."""

from __future__ import annotations

import pytest

from service.device_name import DeviceName
from service.errors import StartupError
from service.runtime.driver import Driver, read_driver
from service.runtime.preflight import both_wheels, choose, gpu_name, obstacle, targets_for
from tests.service.runtime.fakes import H100, FakeFacts, FakeLibrary

CUDA, TENSORRT = DeviceName("cuda"), DeviceName("tensorrt")
CPU_WHEEL = FakeFacts(wheels=("onnxruntime",), providers=("CPUExecutionProvider",), cuda_version=None)
BOTH = FakeFacts(wheels=("onnxruntime", "onnxruntime-gpu"), providers=("CPUExecutionProvider",))


class Hidden(FakeFacts):
    """The driver is installed, and shows this process nothing."""

    def driver(self) -> Driver:
        return read_driver(lambda _: FakeLibrary(fails=("cuInit", 100)))


def test_nothing_is_in_the_way_where_all_is_there() -> None:
    assert obstacle(CUDA, FakeFacts()) is None
    assert obstacle(DeviceName("cuda", 1), FakeFacts()) is None
    assert obstacle(TENSORRT, FakeFacts()) is None


def test_a_cpu_needs_nothing() -> None:
    assert obstacle(DeviceName("cpu"), FakeFacts(wheels=(), providers=(), driver="none")) is None


@pytest.mark.parametrize(
    ("facts", "device", "reason", "remedy"),
    [
        (CPU_WHEEL, CUDA, "onnxruntime 1.31.1 has no CUDAExecutionProvider", "embedserve[gpu]"),
        (BOTH, CUDA, "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed", "pip uninstall -y"),
        (FakeFacts(driver="NVIDIA's driver is not installed (x)"), CUDA, "driver is not installed (x)", "--gpus all"),
        (FakeFacts(driver=Driver((13, 0), ())), CUDA, "the driver shows no device", "count from 0"),
        (FakeFacts(), DeviceName("cuda", 2), "shows 2 devices (0: NVIDIA H100 80GB HBM3, 1: NVIDIA", "from 0"),
        (FakeFacts(driver=Driver((12, 4), (H100,))), CUDA, "CUDA up to 12.4, and this ONNX Runtime is built", "newer"),
        (
            FakeFacts(missing={"CUDAExecutionProvider": "libcublasLt.so.13: cannot open shared object file"}),
            CUDA,
            "CUDA's libraries are not all here: libcublasLt.so.13",
            "pip install 'embedserve[gpu]'",
        ),
        (
            FakeFacts(missing={"TensorrtExecutionProvider": "libnvinfer.so.10: cannot open shared object file"}),
            TENSORRT,
            "TensorRT's libraries are not here: libnvinfer.so.10",
            "tensorrt-cu13-libs<11",
        ),
    ],
)
def test_what_is_missing_is_named_with_its_remedy(
    facts: FakeFacts, device: DeviceName, reason: str, remedy: str
) -> None:
    found = obstacle(device, facts)
    assert found is not None
    assert reason in found.reason
    assert remedy in found.remedy
    assert "\n" not in found.reason


def test_devices_that_are_hidden_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    found = obstacle(CUDA, FakeFacts(driver=Driver((13, 0), ())))
    assert found is not None
    assert found.reason.endswith("with CUDA_VISIBLE_DEVICES=")


@pytest.mark.parametrize("visible", ["", "7", None])
def test_a_driver_that_shows_no_device_is_not_to_be_installed(
    monkeypatch: pytest.MonkeyPatch, visible: str | None
) -> None:
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = obstacle(CUDA, Hidden())
    assert found is not None
    assert "no device: cuInit says 100, no CUDA-capable device is detected" in found.reason
    assert found.reason.endswith("is detected" if visible is None else f", with CUDA_VISIBLE_DEVICES={visible}")
    assert "CUDA_VISIBLE_DEVICES" in found.remedy
    assert "--gpus all" in found.remedy
    assert "install it" not in found.remedy


def test_tensorrt_is_not_needed_for_cuda() -> None:
    assert obstacle(CUDA, FakeFacts(missing={"TensorrtExecutionProvider": "libnvinfer.so.10"})) is None


def test_two_wheels_are_noticed_though_cuda_works() -> None:
    found = both_wheels(FakeFacts(wheels=("onnxruntime", "onnxruntime-gpu")))
    assert found is not None
    assert "both installed" in found.reason
    assert both_wheels(FakeFacts()) is None


def test_auto_follows_the_bundle_and_says_why() -> None:
    found = choose("auto", "cuda", FakeFacts())
    assert found == (CUDA, "the bundle is compiled for cuda")
    found = choose("auto", "cpu", CPU_WHEEL)
    assert found.device == DeviceName("cpu")
    assert found.because.startswith("CUDA cannot be had: onnxruntime 1.31.1 has no CUDAExecutionProvider")
    assert "CUDA could be had" in choose("auto", "cpu", FakeFacts()).because


def test_a_wish_is_fulfilled_or_refused_and_nothing_between() -> None:
    assert choose("cuda:1", "cuda", FakeFacts()).device == DeviceName("cuda", 1)
    with pytest.raises(StartupError, match="the device cuda:1 cannot be had"):
        choose("cuda:1", "cuda", CPU_WHEEL)
    with pytest.raises(StartupError, match="cannot be had"):
        choose("auto", "cuda", CPU_WHEEL)


@pytest.mark.parametrize(("wish", "target"), [("cpu", "cuda"), ("cuda", "cpu"), ("cuda", "tensorrt")])
def test_a_bundle_runs_on_what_it_is_compiled_for(wish: str, target: str) -> None:
    with pytest.raises(StartupError, match=f"compiled for {target}") as raised:
        choose(wish, target, FakeFacts())  # type: ignore[arg-type]
    assert f"--target {wish}" in raised.value.remedy


def test_what_is_compiled_first_is_compiled_for_what_there_is() -> None:
    assert targets_for("auto", facts=FakeFacts()) == ("cuda", "cpu")
    assert targets_for("auto", facts=CPU_WHEEL) == ("cpu",)
    assert targets_for("cpu", facts=FakeFacts()) == ("cpu",)
    assert targets_for("tensorrt:1", facts=FakeFacts()) == ("tensorrt",)
    assert targets_for("auto", precision="int8", facts=FakeFacts()) == ("cpu",)
    with pytest.raises(StartupError, match="cannot be had"):
        targets_for("cuda", facts=CPU_WHEEL)


def test_figures_are_kept_by_the_name_of_the_gpu() -> None:
    assert gpu_name(DeviceName("cuda", 1), FakeFacts()) == H100.name
    assert gpu_name(DeviceName("cpu"), FakeFacts(driver="none")) is None


def test_this_environment_has_one_wheel_and_no_gpu_is_chosen_silently() -> None:
    """The real facts: tests run on the CPU wheel, and anywhere else a choice must still name its reason."""
    assert choose("auto", "cpu").because
    assert choose("cpu", "cpu") == (DeviceName("cpu"), "it was asked for")
