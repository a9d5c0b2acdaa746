"""What ONNX Runtime is told about a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from service.device_name import DeviceName
from service.runtime.providers import CPU, Load, execution

LOAD = Load(
    inputs=("input_ids", "attention_mask"),
    precision="fp16",
    max_seq_length=256,
    max_batch_tokens=16_384,
    max_rows=512,
)


def options(device: DeviceName, provider: str, load: Load = LOAD) -> dict[str, str]:
    return dict((execution(device, load).provider_options or {})[provider])


def test_the_cpu_is_run_as_ever() -> None:
    assert execution(DeviceName("cpu"), LOAD) is CPU
    assert CPU.bound_to is None


def test_cuda_comes_first_and_outputs_stay_there() -> None:
    found = execution(DeviceName("cuda", 1), LOAD)
    assert found.execution_providers == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert found.bound_to == DeviceName("cuda", 1)


def test_cuda_sums_in_float32() -> None:
    found = options(DeviceName("cuda", 1), "CUDAExecutionProvider")
    assert found["device_id"] == "1"
    assert found["enable_skip_layer_norm_strict_mode"] == "1"
    assert found["arena_extend_strategy"] == "kSameAsRequested"
    assert "gpu_mem_limit" not in found
    assert options(DeviceName("cuda"), "CUDAExecutionProvider", replace(LOAD, precision="fp32"))["use_tf32"] == "0"


def test_memory_can_be_limited() -> None:
    found = options(DeviceName("cuda"), "CUDAExecutionProvider", replace(LOAD, memory_limit=2**32))
    assert found["gpu_mem_limit"] == str(2**32)


def test_tensorrt_falls_back_to_cuda_and_knows_every_shape(tmp_path: Path) -> None:
    found = execution(DeviceName("tensorrt"), LOAD)
    assert found.execution_providers[:2] == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    assert found.bound_to == DeviceName("cuda")
    given = options(DeviceName("tensorrt"), "TensorrtExecutionProvider", replace(LOAD, engines=tmp_path))
    assert given["trt_profile_min_shapes"] == "input_ids:1x1,attention_mask:1x1"
    assert given["trt_profile_opt_shapes"] == "input_ids:256x64,attention_mask:256x64"
    assert given["trt_profile_max_shapes"] == "input_ids:512x256,attention_mask:512x256"
    assert given["trt_fp16_enable"] == "1"
    assert given["trt_engine_cache_path"] == str(tmp_path)
    assert options(DeviceName("tensorrt"), "TensorrtExecutionProvider").keys().isdisjoint({"trt_engine_cache_path"})
