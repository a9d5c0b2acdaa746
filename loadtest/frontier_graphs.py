"""The graphs that the frontier compares, each a folder with a model.onnx."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from models import quantise
from models.compile import compile_checkpoint
from models.families import bert_int8
from models.graph import CONTRIB
from models.quantise import STEPS
from service import self_check
from service.bundle import MODEL_ONNX, Bundle, read_bundle
from service.precision import Precision
from service.runtime.providers import CPU, Execution

_DEFAULTS = Execution(CPU.execution_providers, (), enable_mem_pattern=True)
_BLOCK = 32  # of MatMulNBits


@dataclass(frozen=True, slots=True)
class Graph:
    """One of those that are compared. `bundle` says what its inputs are."""

    name: str
    folder: Path
    bundle: Bundle
    execution: Execution = CPU


def native(checkpoint: Path, work: Path) -> list[Graph]:
    """Those that this project compiles: as it serves them, and int8 with one decision taken back at a time."""

    def compiled(name: str, precision: Precision) -> Graph:
        folder = work / name.replace(" ", "-")
        compile_checkpoint(
            str(checkpoint), cache_dir=work / "cache", output=folder, precision=precision, say=lambda _: None
        )
        return Graph(name, folder, read_bundle(folder))

    graphs = [compiled("fp32", "fp32"), compiled("int8", "int8")]
    for name, module, attribute, value in _VARIATIONS:
        with _changed(module, attribute, value):
            graphs.append(compiled(f"int8, {name}", "int8"))
    return graphs


def _one_unit(peaks: NDArray[np.float32], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.full(len(weight), peaks.max() / STEPS, np.float32)


_VARIATIONS: tuple[tuple[str, Any, str, object], ...] = (
    ("one unit for all channels", bert_int8, "units", _one_unit),
    ("channels share evenly", quantise, "_MIGRATION", 0.5),
    ("channels keep their size", quantise, "_MIGRATION", 1.0),
    ("GELU's zero in the middle", bert_int8, "_ACTIVATED_ZERO_POINT", 128),
)


@contextmanager
def _changed(module: Any, attribute: str, value: object) -> Iterator[None]:
    """Whatever vectors come of it: the compiler would refuse some."""
    before, bound = getattr(module, attribute), self_check.MINIMUM_COSINE["int8"]
    setattr(module, attribute, value)
    self_check.MINIMUM_COSINE["int8"] = -1.0
    try:
        yield
    finally:
        setattr(module, attribute, before)
        self_check.MINIMUM_COSINE["int8"] = bound


def exported(checkpoint: Path, export: Path, work: Path) -> list[Graph]:
    """An export of the same checkpoint with the same pooling: as it is, and as the usual tools make it smaller."""
    source = work / "exported"
    shutil.copytree(checkpoint, source, ignore=shutil.ignore_patterns("*.safetensors", "model.onnx*"))
    shutil.copyfile(export, source / MODEL_ONNX)
    folder = compile_checkpoint(
        str(source), cache_dir=work / "cache", output=work / "export", route="onnx", say=lambda _: None
    )
    bundle = read_bundle(folder)
    made = [Graph("fp32, export under ONNX Runtime's defaults", folder, bundle, _DEFAULTS)]
    makers: dict[str, Callable[[Path, Path], None]] = {
        "int8, quantize_dynamic": _dynamic,
        "8 bits, MatMulNBits": _matmul_n_bits,
    }
    for name, make in makers.items():
        target = work / name.replace(" ", "-")
        target.mkdir()
        make(folder / MODEL_ONNX, target / MODEL_ONNX)
        made.append(Graph(name, target, bundle))
    return made


def _dynamic(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(source), str(target), weight_type=QuantType.QInt8)


def _matmul_n_bits(source: Path, target: Path) -> None:
    """8 bits, a scale for each 32 weights of a column; integers multiply integers (accuracy level 4)."""
    graph = (model := onnx.load(str(source))).graph
    constants = {one.name: one for one in graph.initializer}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            weight = numpy_helper.to_array(constants[node.input[1]])
            graph.initializer.extend(_blocks(weight, node.input[1]))
            node.CopyFrom(
                helper.make_node(
                    "MatMulNBits",
                    [node.input[0], f"{node.input[1]}/codes", f"{node.input[1]}/scales"],
                    node.output,
                    domain=CONTRIB,
                    K=weight.shape[0],
                    N=weight.shape[1],
                    bits=8,
                    block_size=_BLOCK,
                    accuracy_level=4,
                )
            )
    if not any(one.domain == CONTRIB for one in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    onnx.save(model, str(target))


def _blocks(weight: NDArray[np.float32], name: str) -> list[onnx.TensorProto]:
    """(in, out) → uint8 (out, blocks, 32) with zero point 128, float32 (out, blocks)."""
    blocks = weight.T.reshape(weight.shape[1], -1, _BLOCK)
    scales = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / STEPS
    codes = (np.rint(blocks / scales[..., None]) + 128).astype(np.uint8)
    return [
        numpy_helper.from_array(codes, f"{name}/codes"),
        numpy_helper.from_array(scales.astype(np.float32), f"{name}/scales"),
    ]
