"""A thin pen for ONNX graphs: nodes and constants appended one by one, by name. The door to `onnx`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from service.bundle import MODEL_ONNX, Input

OPSET = 17
"""The first with LayerNormalization. Old enough for every supported ONNX Runtime."""

IR_VERSION = 8
MINIMUM_OPSET = 13
INPUTS: tuple[Input, ...] = get_args(Input)
CONTRIB = "com.microsoft"

# Weights lie beside the graph: ONNX Runtime maps such a file instead of parsing and copying it, which opens
# the session 2.5 times faster in half the memory, and protobuf's own limit is 2 GB.
WEIGHTS_FILE = f"{MODEL_ONNX}.data"


class Graph:
    """A graph in the making. Names given here begin with `prefix`, so that they never meet those of a found graph."""

    def __init__(self, model: onnx.ModelProto | None = None) -> None:
        """Empty, or ready to be appended to `model`."""
        self.model = model or helper.make_model(
            helper.make_graph([], "encoder", [], []),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        self.opset = next(one.version for one in self.model.opset_import if one.domain in ("", "ai.onnx"))
        self._body = self.model.graph  # where nodes go
        self._prefix = "" if model is None else "embedserve/"
        self._count = 0
        # A graph of ours that was written and read again has such names already.
        self._taken = {name for node in self._body.node for name in node.output}
        self._taken.update(one.name for one in self._body.initializer)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Names of the declared inputs, in the order of INPUTS."""
        declared = {value.name for value in self.model.graph.input}
        return tuple(name for name in INPUTS if name in declared)

    def input(self, name: str) -> str:
        """Declares an int64 input (rows, length)."""
        value = helper.make_tensor_value_info(name, TensorProto.INT64, ["rows", "length"])
        self.model.graph.input.append(value)
        return name

    def output(self, value: str, name: str, *shape: int | str) -> None:
        """Declares `value` as the float32 output `name`, the only one so far declared under that name."""
        self.model.graph.node.append(helper.make_node("Identity", [value], [name]))
        self.model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def op(self, op_type: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Appends a node with one output and returns the output's name."""
        if domain and not any(one.domain == domain for one in self.model.opset_import):
            self.model.opset_import.append(helper.make_opsetid(domain, 1))
        output = self._name(op_type)
        self._body.node.append(helper.make_node(op_type, inputs, [output], domain=domain, **attributes))
        return output

    def branch(self, condition: str, then: Callable[[], str], otherwise: Callable[[], str]) -> str:
        """`condition` is one bool. Of the two only one is computed, by the nodes that the functions append; each
        returns a float32 value of its own, and may read whatever was there before."""
        output = self._name("If")
        branches = {"then_branch": self._branch(then), "else_branch": self._branch(otherwise)}
        self._body.node.append(helper.make_node("If", [condition], [output], **branches))
        return output

    def _branch(self, append: Callable[[], str]) -> onnx.GraphProto:
        outer, self._body = self._body, onnx.GraphProto(name=self._name("branch"))
        try:
            value = append()
            self._body.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))
            return self._body
        finally:
            self._body = outer

    def constant(self, value: NDArray[Any], name: str = "") -> str:
        """Adds a tensor and returns its name, which says in a profile where it came from."""
        name = f"{self._prefix}{name}" if name else self._name("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def mapped(self, name: str, file: str, *shape: int) -> str:
        """A float32 tensor that is the whole of a file beside the graph, written by whoever calls this, and never in
        memory here."""
        tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=file)
        self.model.graph.initializer.append(tensor)
        return name

    def reduce(self, op_type: str, value: str, axis: int, *, keepdims: int = 0) -> str:
        """ReduceSum, ReduceMax, ReduceL2: the axes moved from an attribute to an input, at opset 13 and 18."""
        if self.opset >= (13 if op_type == "ReduceSum" else 18):
            return self.op(op_type, value, self.constant(np.array([axis])), keepdims=keepdims)
        return self.op(op_type, value, axes=[axis], keepdims=keepdims)

    def split(self, value: str, sizes: Sequence[int]) -> list[str]:
        """(…, sum of sizes) → one value for each size."""
        outputs = [self._name("Split") for _ in sizes]
        inputs = [value, self.constant(np.array(sizes))]
        self._body.node.append(helper.make_node("Split", inputs, outputs, axis=-1))
        return outputs

    def cast(self, value: str, to: int) -> str:
        """`to` is a TensorProto type."""
        return self.op("Cast", value, to=to)

    def _name(self, what: str) -> str:
        self._count += 1
        name = f"{self._prefix}{what}_{self._count}"
        return name if name not in self._taken else self._name(what)

    def save(self, folder: Path) -> list[str]:
        """Writes the graph and its weights into `folder`, over those of another; returns the names of the files."""
        (folder / WEIGHTS_FILE).unlink(missing_ok=True)  # onnx would append to it
        onnx.save_model(
            self.model,
            str(folder / MODEL_ONNX),
            save_as_external_data=True,
            all_tensors_to_one_file=True,
            location=WEIGHTS_FILE,
        )
        names = [MODEL_ONNX]
        if (folder / WEIGHTS_FILE).is_file():
            names.append(WEIGHTS_FILE)
            # onnx makes it readable to its owner only; the server may run as another user.
            os.chmod(folder / WEIGHTS_FILE, (folder / MODEL_ONNX).stat().st_mode)
        return names
