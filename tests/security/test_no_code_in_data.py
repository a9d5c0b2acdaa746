"""Data is never run: nothing that can read code out of a file is used, and no file leads out of its folder."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from service.bundle import read_bundle
from service.errors import BundleError
from service.runtime.providers import CPU
from service.runtime.session import Session

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("service", "models") for path in (ROOT / folder).rglob("*.py"))

MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "jsonpickle", "yaml"}
CALLS = {"eval", "exec", "compile", "__import__"}  # the built-in ones
METHODS = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("np", "fromregex"), ("torch", "hub")}
WORDS = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False, "shell": True}


def complaints(tree: ast.AST) -> Iterator[str]:
    """What may run code out of data."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (one.name for one in names if one.name.split(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.split(".")[0] in MODULES:
                yield module
            case ast.Call(func=ast.Name(id=name)) if name in CALLS:
                yield name
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in METHODS:
                yield f"{owner}.{name}"
            case ast.keyword(arg=str(name), value=ast.Constant(value=value)) if WORDS.get(name, not value) == value:
                yield f"{name}={value}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_code_is_read_from_data(path: Path) -> None:
    assert list(complaints(ast.parse(path.read_text("utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        *("import pickle", "from joblib import load", "eval('1')", "torch.load(f)", "np.load(f)"),
        *("f(allow_pickle=True)", "f(trust_remote_code=True)", "subprocess.run(c, shell=True)"),
    ],
)
def test_the_check_sees_what_it_looks_for(source: str) -> None:
    assert list(complaints(ast.parse(source)))


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", "", "a\\b", "a\0b"])
def test_a_bundle_names_no_file_outside_its_folder(bundle: Path, tmp_path: Path, name: str) -> None:
    described = json.loads((bundle / "bundle.json").read_text("utf-8"))
    described["files"][name] = "0" * 64
    (tmp_path / "bundle.json").write_text(json.dumps(described), "utf-8")
    with pytest.raises(BundleError, match="named without a folder"):
        read_bundle(tmp_path)


@pytest.mark.parametrize("place", ["../secret", "link", "{absolute}", "inner/../../secret"])
def test_a_graph_reads_no_weights_outside_its_folder(tmp_path: Path, place: str) -> None:
    """ONNX's external data: `location` is a path that the graph's author wrote."""
    (folder := tmp_path / "bundle").mkdir()
    (folder / "inner").mkdir()
    (secret := tmp_path / "secret").write_bytes(bytes(16))
    (folder / "link").symlink_to(secret)
    _write_graph(folder / "model.onnx", place.format(absolute=secret))
    with pytest.raises(BundleError, match=r"[Ee]xternal data"):
        Session(folder / "model.onnx", CPU, 1)


def test_a_graph_reads_weights_beside_it(tmp_path: Path) -> None:
    """So the refusals above are for the place."""
    (tmp_path / "beside").write_bytes(bytes(16))
    _write_graph(tmp_path / "model.onnx", "beside")
    assert Session(tmp_path / "model.onnx", CPU, 1).inputs == {"x"}


def _write_graph(path: Path, location: str) -> None:
    weights = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "graph", [x], [y], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    assert onnx.load(str(path), load_external_data=False).graph.node
