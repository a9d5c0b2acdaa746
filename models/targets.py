"""What a target other than the CPU makes of a finished float32 graph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx

from models.graph import Graph
from models.half import as_on_a_gpu, to_half
from models.packed import as_padded, pack
from models.plain import to_plain
from models.skip_norm import fuse
from service.bundle import MODEL_ONNX, Bundle


def adapt(folder: Path, bundle: Bundle, *, keep_padding: bool = False) -> Bundle:
    """Writes the graph of the target over the float32 graph in `folder`; returns what is true of the bundle then.
    Raises CheckpointError."""
    if bundle.target == "cpu":
        return bundle
    graph = _read(folder)
    if bundle.target == "tensorrt":
        to_plain(graph)  # in float32: TensorRT chooses the types of its engine itself
        graph.save(folder)
        return bundle
    fuse(graph)
    if bundle.precision == "fp16":
        to_half(graph)
    # Where queries are filled up, tokens that nobody attends to, and the mask leaves out, have vectors of their own.
    packed = not keep_padding and bundle.late_interaction is None and pack(graph)
    graph.save(folder)
    return bundle.model_copy(update={"packed": packed})


@contextmanager
def rounded_graph(folder: Path, bundle: Bundle) -> Iterator[Path | None]:
    """A graph that gives on a CPU what the one in `folder` gives on its device, for as long as it is looked at; None
    where that is the same."""
    if bundle.precision != "fp16":
        yield None
        return
    graph = _read(folder)
    if bundle.target == "tensorrt":
        to_half(graph)
    with _beside(as_on_a_gpu(as_padded(graph.model)), folder) as path:
        yield path


@contextmanager
def cpu_graph(folder: Path, bundle: Bundle) -> Iterator[Path | None]:
    """The graph in `folder` in operators that a CPU has, for as long as it is looked at; None where it is that."""
    if not bundle.packed:
        yield None
        return
    with _beside(as_padded(_read(folder).model)) as path:
        yield path


@contextmanager
def _beside(model: onnx.ModelProto, folder: Path | None = None) -> Iterator[Path]:
    """Writes it into a folder of its own, in `folder` or among other temporary ones."""
    with TemporaryDirectory(dir=folder, prefix="embedserve-graph-") as place:
        Graph(model).save(Path(place))
        yield Path(place) / MODEL_ONNX


def _read(folder: Path) -> Graph:
    return Graph(onnx.load(str(folder / MODEL_ONNX)))
