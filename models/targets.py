"""What a target other than the CPU makes of a finished float32 graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from models.graph import Graph
from models.half import as_on_a_gpu, to_half
from service.bundle import MODEL_ONNX, Bundle


def adapt(folder: Path, bundle: Bundle) -> None:
    """Writes the graph of the target over the float32 graph in `folder`. Raises CheckpointError."""
    if bundle.target == "cuda" and bundle.precision == "fp16":
        graph = _read(folder)
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
        graph = Graph(as_on_a_gpu(_read(folder).model))
        graph.save(Path(beside))
        yield Path(beside) / MODEL_ONNX


def _read(folder: Path) -> Graph:
    return Graph(onnx.load(str(folder / MODEL_ONNX)))
