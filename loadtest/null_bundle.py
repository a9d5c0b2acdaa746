"""A bundle whose encoder costs nothing: all that is left of a request's time is the server's own."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from loadtest.peers.environments import run
from loadtest.pinning import cores, on_cores
from loadtest.server import Server, embedserve
from models.verify import record_golden
from service.bundle import (
    BUNDLE_JSON,
    GOLDEN_JSON,
    MODEL_ONNX,
    OUTPUT,
    TOKEN_OUTPUT,
    TOKENIZER_JSON,
    read_bundle,
    sha256_of,
)

_ROWS = 512
_OPSET = 17
_TUNE_SECONDS = 120.0


def write_null_bundle(source: Path, folder: Path) -> None:
    """The tokenizer and description of `source` beside a graph that looks one of 512 unit vectors up by the token
    behind [CLS]. Its vectors mean nothing."""
    bundle = read_bundle(source)
    for name in (TOKENIZER_JSON, GOLDEN_JSON):
        shutil.copy(source / name, folder / name)
    _write_graph(folder / MODEL_ONNX, bundle.inputs, bundle.dimensions)
    files = {name: sha256_of(folder / name) for name in (MODEL_ONNX, TOKENIZER_JSON, GOLDEN_JSON)}
    changed = bundle.model_copy(update={"model_id": "null", "files": files})
    (folder / BUNDLE_JSON).write_text(changed.model_dump_json(), "utf-8")
    golden = record_golden(folder, changed, "the null graph").model_dump_json()
    (folder / GOLDEN_JSON).write_text(golden, "utf-8")
    files[GOLDEN_JSON] = sha256_of(folder / GOLDEN_JSON)
    (folder / BUNDLE_JSON).write_text(changed.model_copy(update={"files": files}).model_dump_json(), "utf-8")


@contextlib.contextmanager
def null_server(source: Path, serve_options: Sequence[str]) -> Iterator[Server]:
    """A server of such a bundle, with the first core to itself. Tuned, as one of a real device would be: where tokens
    cost nothing a batch takes what there is, and not as many rows as a CPU's kernels like best. Raises RuntimeError."""
    with tempfile.TemporaryDirectory(prefix="embedserve-null-") as folder, contextlib.ExitStack() as stack:
        write_null_bundle(source, Path(folder))
        with on_cores(cores()[:1]):
            run([sys.executable, "-m", "service.cli", "tune", folder, "--quick"], _TUNE_SECONDS)
            server = stack.enter_context(embedserve(Path(folder), serve_options))
        yield server


def _write_graph(path: Path, inputs: tuple[str, ...], dimensions: int) -> None:
    table = np.random.default_rng(0).normal(size=(_ROWS, dimensions)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    constants = {"table": table, "rows": np.array(_ROWS), "second": np.array(1)}
    nodes = [
        helper.make_node("Gather", ["input_ids", "second"], ["token"], axis=1),
        helper.make_node("Mod", ["token", "rows"], ["number"]),
        helper.make_node("Gather", ["table", "number"], [OUTPUT]),
        helper.make_node("Mod", ["input_ids", "rows"], ["numbers"]),
        helper.make_node("Gather", ["table", "numbers"], [TOKEN_OUTPUT]),
    ]
    ins = [helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"]) for name in inputs]
    outs = [
        helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", dimensions]),
        helper.make_tensor_value_info(TOKEN_OUTPUT, TensorProto.FLOAT, ["rows", "length", dimensions]),
    ]
    weights = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "null", ins, outs, weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8), str(path))
