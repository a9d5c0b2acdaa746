"""What a target other than the CPU makes of a finished float32 graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from models.graph import Graph
from models.half import as_on_a_gpu, to_half
from models.plain import to_plain
from service.bundle import MODEL_ONNX, Bundle


def adapt(folder: Path, bundle: Bundle) -> None:
    """Writes the graph of the target over the float32 graph in `folder`. Raises CheckpointError."""
    graph = None if bundle.target == "cpu" else _read(folder)
    if graph is not None and bundle.target == "tensorrt":
        to_plain(graph)  # in float32: TensorRT chooses the types of its engine itself
        graph.save(folder)
    elif graph is not None and bundle.precision == "fp16":
        to_half(graph)
        graph.save(folder)


@contextmanager
def rounded_graph(folder: Path, bundle: Bundle) -> Iterator[Path | None]:
    """A graph that gives on a CPU what the one in `folder` gives on its device, for as long as it is looked at; None
    where that is the same."""
    if bundle.precision != "fp16":
        yield None
        return
    with TemporaryDirectory(dir=folder, prefix="rounded-") as beside:
        graph = _read(folder)
        if bundle.target == "tensorrt":
            to_half(graph)
        Graph(as_on_a_gpu(graph.model)).save(Path(beside))
        yield Path(beside) / MODEL_ONNX


def _read(folder: Path) -> Graph:
    return Graph(onnx.load(str(folder / MODEL_ONNX)))
