"""The only importer of onnxruntime: opens a graph, runs it, and translates its faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError, InferenceError, StartupError
from service.runtime.providers import Execution

try:
    import onnxruntime as ort
except ImportError as missing:
    raise StartupError(
        "ONNX Runtime is not installed",
        "install one of the two: pip install 'embedserve[cpu]' or pip install 'embedserve[gpu]'",
    ) from missing


class Session:
    """One loaded graph. `run` may be called from several threads at once and releases the GIL meanwhile."""

    def __init__(self, model: Path, execution: Execution, intra_op_threads: int) -> None:
        """Loads and optimises the graph. Raises BundleError where ONNX Runtime refuses it."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = execution.enable_cpu_mem_arena
        options.enable_mem_pattern = execution.enable_mem_pattern
        # Idle worker threads must not burn the cores that other executors are using.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._run_options: Any = ort.RunOptions()
        for key, value in execution.run_config:
            self._run_options.add_run_config_entry(key, value)
        try:
            self._session: Any = ort.InferenceSession(
                str(model),
                options,
                providers=list(execution.execution_providers),
                disabled_optimizers=list(execution.disabled_optimizers),
            )
        except Exception as error:
            raise BundleError(f"ONNX Runtime cannot load {model}: {error}", "compile the model again") from error

    @property
    def inputs(self) -> set[str]:
        """Names of the graph's inputs."""
        return {one.name for one in self._session.get_inputs()}

    @property
    def outputs(self) -> set[str]:
        """Names of the graph's outputs."""
        return {one.name for one in self._session.get_outputs()}

    def run(self, outputs: list[str], feeds: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Raises InferenceError for anything ONNX Runtime raises."""
        try:
            results: list[NDArray[np.float32]] = self._session.run(outputs, feeds, self._run_options)
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed: {error}") from error
        return results


def runtime_version() -> str:
    """ONNX Runtime's own version, for the build information."""
    return str(ort.__version__)
