"""A thread's own way in and out of a session on a device: ONNX Runtime's IOBinding, with a buffer that is kept.

The output that is asked for is written into memory of the device, which was reserved before, and only its values are
copied from there: (rows, dimensions) floats of a batch whose hidden states may be a thousand times as many.
The same code runs with `cpu` for a device, which is how it is tested where there is no other.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.device_name import DeviceName
from service.runtime.wheel import ort


class Bindings:
    """One `Binding` for each thread that runs the session."""

    def __init__(self, session: Any, device: DeviceName) -> None:
        self._session, self._device = session, device
        self._shapes = {one.name: tuple(one.shape) for one in session.get_outputs()}
        self._of_thread = threading.local()

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.int64]], options: Any
    ) -> list[NDArray[np.float32]]:
        """As `InferenceSession.run`, and raises what it raises."""
        binding: Binding | None = getattr(self._of_thread, "binding", None)
        if binding is None:
            binding = self._of_thread.binding = Binding(self._session, self._device, self._shapes)
        return binding.run(outputs, feeds, options)


class Binding:
    """Owned by one thread. `shapes` of outputs have numbers, and names of axes that inputs have as well."""

    def __init__(self, session: Any, device: DeviceName, shapes: Mapping[str, Sequence[int | str | None]]) -> None:
        self._session, self._device, self._shapes = session, device, shapes
        self._binding = session.io_binding()
        self._buffers: dict[str, Any] = {}  # of outputs, by name
        self._sizes: dict[str, int] = {}  # in floats

    def run(
        self, outputs: Sequence[str], feeds: Mapping[str, NDArray[np.int64]], options: Any
    ) -> list[NDArray[np.float32]]:
        """The results are copies in host memory: the next run does not touch them."""
        rows, length = next(iter(feeds.values())).shape
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        for name, array in feeds.items():
            self._binding.bind_cpu_input(name, array)
        for name in outputs:
            self._bind_output(name, rows, length)
        self._session.run_with_iobinding(self._binding, options)
        return [np.array(one.numpy()) for one in self._binding.get_outputs()]

    def _bind_output(self, name: str, rows: int, length: int) -> None:
        kind, number = self._device
        known = {"rows": rows, "length": length}
        shape = [known.get(axis, 0) if isinstance(axis, str) else axis or 0 for axis in self._shapes[name]]
        if not all(shape):  # an axis that only the run tells: ONNX Runtime takes memory of the device's for it
            self._binding.bind_output(name, kind, number)
            return
        buffer = self._buffer(name, math.prod(shape))
        self._binding.bind_output(name, kind, number, np.float32, shape, buffer.data_ptr())

    def _buffer(self, name: str, size: int) -> Any:
        """At least `size` floats. It grows by doubling, so that it seldom does."""
        if size > self._sizes.get(name, 0):
            self._sizes[name] = 1 << (size - 1).bit_length()
            kind, number = self._device
            self._buffers[name] = ort.OrtValue.ortvalue_from_shape_and_type(
                [self._sizes[name]], np.float32, kind, number
            )
        return self._buffers[name]
