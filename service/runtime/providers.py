"""A device and a bundle → execution provider and session options. Never a silent fallback to another device.

Options are ONNX Runtime's, by the names of its documents of the CUDA and TensorRT execution providers. CUDA's
have run on hardware, TensorRT's have not: docs/GPU.md says what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.device_name import DeviceName
from service.precision import Precision

Options = tuple[tuple[str, str], ...]

# Of the shape that an engine is best at.
_USUAL_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Execution:
    """How sessions of one target run: ONNX Runtime's own terms."""

    execution_providers: tuple[str, ...]
    disabled_optimizers: tuple[str, ...]
    enable_cpu_mem_arena: bool = True
    enable_mem_pattern: bool = False
    run_config: tuple[tuple[str, str], ...] = ()  # entries for every run
    provider_options: Mapping[str, Options] | None = None
    bound_to: DeviceName | None = None  # where outputs are kept until they are copied; None: no binding at all


# ONNX Runtime would fuse Add + LayerNormalization into SkipLayerNormalization, whose CPU kernel is
# about 5 times slower than the two it replaces.
# Memory: the arena stays on. Patterns are off: ONNX Runtime keeps one for every shape it has seen, rows times
# lengths, for ever. docs/PERFORMANCE.md has the figures, `python -m loadtest.soak` measures them.
CPU = Execution(("CPUExecutionProvider",), ("SkipLayerNormFusion",))


@dataclass(frozen=True, slots=True)
class Load:
    """What sessions on a GPU are prepared for; lengths and budget in tokens, memory in bytes."""

    inputs: Sequence[str]
    precision: Precision
    max_seq_length: int
    max_batch_tokens: int
    max_rows: int  # of any batch
    memory_limit: int | None = None
    engines: Path | None = None  # the folder for TensorRT's engines; None keeps none


def execution(device: DeviceName, load: Load) -> Execution:
    """For sessions on that device."""
    if device.kind == "cpu":
        return CPU
    options = {"CUDAExecutionProvider": _cuda(device, load)}
    if device.kind == "tensorrt":
        options = {"TensorrtExecutionProvider": _tensorrt(device, load), **options}
    return Execution(
        # What computes shapes runs on the CPU, which is how CUDA's provider means it.
        execution_providers=(*options, "CPUExecutionProvider"),
        disabled_optimizers=(),
        provider_options=options,
        bound_to=DeviceName("cuda", device.number),
    )


def _cuda(device: DeviceName, load: Load) -> Options:
    """No convolution option, as encoders have none; no CUDA graph, because shapes change from batch to batch."""
    found = {
        "device_id": str(device.number),
        # Powers of two would take up to twice what the largest batch needs, of memory that models share.
        "arena_extend_strategy": "kSameAsRequested",
        # The fused kernel adds up in float16 otherwise. In strict mode it is LayerNormalization's, which takes sums in
        # float32 (onnxruntime/contrib_ops/cuda/bert/skip_layer_norm.cc and core/providers/cuda/nn/layer_norm_impl.cu).
        "enable_skip_layer_norm_strict_mode": "1",
        # TF32 keeps 10 bits of a float32's 23: who asks for fp32 means fp32.
        "use_tf32": "0" if load.precision == "fp32" else "1",
    }
    if load.memory_limit is not None:
        found["gpu_mem_limit"] = str(load.memory_limit)
    return tuple(found.items())


def _tensorrt(device: DeviceName, load: Load) -> Options:
    found = {
        "device_id": str(device.number),
        "trt_fp16_enable": "1" if load.precision == "fp16" else "0",
        # Overflow in these is what fp16 breaks first.
        "trt_layer_norm_fp32_fallback": "1",
        "trt_profile_min_shapes": _shapes(load.inputs, 1, 1),
        "trt_profile_opt_shapes": _shapes(load.inputs, *_usual(load)),
        # One engine serves all shapes between the smallest and these; for a larger one it would be built anew, which
        # takes minutes while requests wait.
        "trt_profile_max_shapes": _shapes(load.inputs, load.max_rows, load.max_seq_length),
    }
    if load.engines is not None:
        found |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(load.engines),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(load.engines),
        }
    return tuple(found.items())


def _usual(load: Load) -> tuple[int, int]:
    length = min(_USUAL_LENGTH, load.max_seq_length)
    return max(1, min(load.max_rows, load.max_batch_tokens // length)), length


def _shapes(inputs: Sequence[str], rows: int, length: int) -> str:
    return ",".join(f"{name}:{rows}x{length}" for name in inputs)
