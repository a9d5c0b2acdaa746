"""The real wheel for GPUs, up to the point where it asks for a device: our words for what it lacks, and no session on
the CPU in place of one on a GPU, which is what it gives by itself."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from tests.clients.environments import SCRIPTS, Python

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
WHEEL = Python("onnxruntime-gpu", ("onnxruntime-gpu==1.31.1",))  # without its extras, which are 2 GB


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def graph(folder: Path) -> Path:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in "xy")
    made = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    path = folder / "relu.onnx"
    onnx.save_model(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def said(tmp_path: Path, *paths: Path) -> dict[str, Any]:
    """What the script says, with more folders to import from."""
    search = os.pathsep.join(map(str, [ROOT, *paths]))
    found: dict[str, Any] = WHEEL.run("onnxruntime_gpu.py", str(graph(tmp_path)), env={"PYTHONPATH": search})
    return found


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return said(tmp_path_factory.mktemp("gpu"))


def test_the_wheel_is_what_we_take_it_for(facts: dict[str, Any]) -> None:
    assert facts["providers"] == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert facts["cuda_version"] == "13.0"
    assert facts["both"] is None


@pytest.mark.skipif(has_driver(), reason="this machine has a driver")
def test_a_missing_driver_is_named(facts: dict[str, Any]) -> None:
    reason, remedy = facts["cuda"]
    assert "NVIDIA's driver is not installed (libcuda.so.1" in reason
    assert "--gpus all" in remedy
    assert facts["auto"] == f"CUDA cannot be had: {reason}"


def test_missing_libraries_are_named(facts: dict[str, Any]) -> None:
    reason, remedy = facts["cuda_with_driver"]
    assert reason.startswith("CUDA's libraries are not all here: libcublasLt.so.13: cannot open shared object file")
    assert "embedserve[gpu]" in remedy
    assert "libc" in facts["tensorrt_with_driver"][0]


def test_no_session_opens_on_another_device(facts: dict[str, Any]) -> None:
    """The wheel's own InferenceSession gives one on the CPU for the first, and raises for the second."""
    assert "without CUDAExecutionProvider" in facts["opened_cuda"]
    assert "TensorRT" in facts["opened_tensorrt"]


def test_its_own_lines_say_why_and_nothing_else(tmp_path: Path) -> None:
    """As any session with CUDA, a missing one comes with a warning of plugins, which are not ours."""
    command = [str(WHEEL.interpreter()), str(SCRIPTS / "onnxruntime_gpu.py"), str(graph(tmp_path))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert re.search(r"\[E:onnxruntime:Default, .* libcublasLt\.so\.13: cannot open shared object file", done.stderr)
    assert "[W:onnxruntime" not in done.stderr


def test_the_cpu_wheel_beside_it_is_noticed(tmp_path: Path) -> None:
    described = tmp_path / "onnxruntime-1.31.1.dist-info" / "METADATA"
    described.parent.mkdir()
    described.write_text("Metadata-Version: 2.4\nName: onnxruntime\nVersion: 1.31.1\n")
    reason, remedy = said(tmp_path, tmp_path)["both"]
    assert "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed" in reason
    assert remedy.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")
