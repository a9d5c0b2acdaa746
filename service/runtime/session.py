"""Opens a graph, runs it, and translates ONNX Runtime's faults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import BundleError, InferenceError, StartupError
from service.runtime import wheel
from service.runtime.binding import Bindings
from service.runtime.providers import Execution
from service.runtime.wheel import ort

_WORDS_SHOWN = 400  # of a fault's text, which begins with files and functions


class Session:
    """One loaded graph. `run` may be called from several threads at once and releases the GIL meanwhile."""

    def __init__(self, model: Path, execution: Execution, intra_op_threads: int) -> None:
        """Loads and optimises the graph. Raises BundleError where ONNX Runtime refuses it, and StartupError where it
        would run it on another device than it was told."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = intra_op_threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = execution.enable_cpu_mem_arena
        options.enable_mem_pattern = execution.enable_mem_pattern
        # Idle worker threads must not burn the cores that other executors are using.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._run_options: Any = ort.RunOptions()
        self._run_options.log_severity_level = 4  # what a run raises says it all; ONNX Runtime would wait for who reads
        for key, value in execution.run_config:
            self._run_options.add_run_config_entry(key, value)
        self._session: Any = _opened(model, options, execution)
        self._bindings = Bindings(self._session, execution.bound_to) if execution.bound_to else None

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
            if self._bindings is not None:
                return self._bindings.run(outputs, feeds, self._run_options)
            results: list[NDArray[np.float32]] = self._session.run(outputs, feeds, self._run_options)
        except Exception as error:
            raise InferenceError(f"ONNX Runtime failed: {error}") from error
        return results


def _opened(model: Path, options: Any, execution: Execution) -> Any:
    given = execution.provider_options or {}
    providers = [(name, dict(given.get(name, ()))) for name in execution.execution_providers]
    try:
        session = ort.InferenceSession(
            str(model),
            options,
            providers=providers,
            disabled_optimizers=list(execution.disabled_optimizers),
            enable_fallback=0,  # otherwise it would say what failed and go on without the device
        )
    except Exception as error:
        if execution.bound_to is not None and execution.bound_to.kind != "cpu":
            raise _refused_by_device(model, execution, error) from error
        raise BundleError(f"ONNX Runtime cannot load {model}: {error}", "compile the model again") from error
    # A provider that cannot be loaded is left out with nothing but a line in the log.
    if missing := [name for name in execution.execution_providers if name not in session.get_providers()]:
        reason = f"ONNX Runtime opened {model.name} without {missing[0]}; its own line above says why"
        raise StartupError(reason, "mend that, or take --device cpu")
    return session


def _refused_by_device(model: Path, execution: Execution, error: Exception) -> StartupError:
    """Not the bundle's fault, whose files are as recorded: compiling it again would not help."""
    found = " ".join(str(error).split())
    says = found if len(found) <= _WORDS_SHOWN else f"… {found[-_WORDS_SHOWN:]}"  # what failed comes last
    reason = f"ONNX Runtime cannot open {model.name} with {execution.execution_providers[0]}: {says}"
    return StartupError(reason, "see whether nvidia-smi works and memory is free; --gpu-memory-limit bounds ours")


def runtime_version() -> str:
    """ONNX Runtime's own version, for the build information."""
    return wheel.version()
