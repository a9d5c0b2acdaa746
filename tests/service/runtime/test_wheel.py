"""What ONNX Runtime writes to stderr by its default logger: the log of all that belongs to no session."""

from __future__ import annotations

import subprocess
import sys

import pytest

OURS, PLAIN = "from service.runtime.wheel import ort", "import onnxruntime as ort"

# A key that is set twice is a warning, a thread for a core that no machine has is an error.
WARNING = """
options = ort.SessionOptions()
for value in "01":
    options.add_session_config_entry("session.intra_op.allow_spinning", value)
"""
ERROR = """
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows"]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options = ort.SessionOptions()
options.intra_op_num_threads = 2
options.add_session_config_entry("session.intra_op_thread_affinities", "60000")
ort.InferenceSession(model.SerializeToString(), options)
"""


def stderr_of(*parts: str) -> str:
    """Of a process of its own: ONNX Runtime writes past sys.stderr."""
    done = subprocess.run([sys.executable, "-c", "\n".join(parts)], capture_output=True, text=True, check=True)
    return done.stderr


def test_warnings_that_no_user_can_mend_are_not_written() -> None:
    assert "[W:onnxruntime:Default" in stderr_of(PLAIN, WARNING)
    assert stderr_of(OURS, WARNING) == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not pin threads so")
def test_errors_still_are() -> None:
    assert "[E:onnxruntime:Default" in stderr_of(OURS, ERROR)
