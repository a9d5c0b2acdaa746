"""The ONNX route: an encoder that was exported already → the same graph with pooling and normalisation appended."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import TensorProto

from models import heads, splade
from models.checkpoint import Checkpoint
from models.classification import Classifier
from models.graph import MINIMUM_OPSET, Graph
from service.bundle import OUTPUT, SCORE_OUTPUT, SPARSE_OUTPUT, TOKEN_OUTPUT
from service.errors import CheckpointError

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_HIDDEN_NAMES = ("last_hidden_state", "token_embeddings")
_LOGITS_NAMES = ("logits",)
_OWN_NAMES = (OUTPUT, TOKEN_OUTPUT, SPARSE_OUTPUT)


def find_graph(folder: Path) -> Path | None:
    """The exported encoder of a checkpoint, in one of the two usual places."""
    return next((path for name in ("onnx/model.onnx", "model.onnx") if (path := folder / name).is_file()), None)


def build(checkpoint: Checkpoint) -> Graph:
    """The whole graph, in the opset of the found one. Raises CheckpointError."""
    path = find_graph(checkpoint.folder)
    if path is None:
        raise CheckpointError(f"{checkpoint.folder} has no onnx/model.onnx", "leave --route out, or add the export")
    model = _load(path)
    _check_inputs(model, path)
    if checkpoint.classifier is not None:
        return _classifier(model, path, checkpoint.classifier)
    is_sparse = checkpoint.task == "sparse"
    hidden = _token_output(model, path, _LOGITS_NAMES if is_sparse else _HIDDEN_NAMES)
    width = hidden.type.tensor_type.shape.dim[2]
    expected = checkpoint.vocab_size if is_sparse else checkpoint.hidden_size
    if width.dim_value not in (0, expected):  # 0: the export left it open
        raise _refused(path, f"{hidden.name} is {width.dim_value} wide, config.json says {expected}")
    del model.graph.output[:]
    for name in _OWN_NAMES:
        _free_name(model, name)
    graph = Graph(model)
    if graph.opset < MINIMUM_OPSET:
        raise _refused(path, f"opset {graph.opset} is older than {MINIMUM_OPSET}")
    value = hidden.name if hidden.name not in _OWN_NAMES else f"{hidden.name}/found"
    if hidden.type.tensor_type.elem_type != TensorProto.FLOAT:
        value = graph.cast(value, TensorProto.FLOAT)
    if is_sparse:
        splade.append_to_logits(graph, value, "attention_mask", checkpoint)
    else:
        heads.append(graph, value, "attention_mask", checkpoint)
    return graph


def _classifier(model: onnx.ModelProto, path: Path, classifier: Classifier) -> Graph:
    """The found graph, with the logits under the name that the bundle has for them."""
    labels = len(classifier.labels)
    found = next((value for value in model.graph.output if value.name == SCORE_OUTPUT), None)
    if found is None or len(found.type.tensor_type.shape.dim) != 2:
        names = ", ".join(value.name for value in model.graph.output)
        raise _refused(path, f"none of its outputs ({names}) is {SCORE_OUTPUT} (rows, labels)")
    if found.type.tensor_type.shape.dim[1].dim_value not in (0, labels):
        width = found.type.tensor_type.shape.dim[1].dim_value
        raise _refused(path, f"{SCORE_OUTPUT} is {width} wide, config.json has {labels} labels")
    if "token_type_ids" in (value.name for value in model.graph.input) and not classifier.has_segments:
        raise _refused(path, "it takes token_type_ids, which the tokenizer does not give")
    kind = found.type.tensor_type.elem_type
    del model.graph.output[:]
    _free_name(model, SCORE_OUTPUT)
    graph = Graph(model)
    if graph.opset < MINIMUM_OPSET:
        raise _refused(path, f"opset {graph.opset} is older than {MINIMUM_OPSET}")
    logits = f"{SCORE_OUTPUT}/found"
    if kind != TensorProto.FLOAT:
        logits = graph.cast(logits, TensorProto.FLOAT)
    graph.output(logits, SCORE_OUTPUT, "rows", labels)
    return graph


def _load(path: Path) -> onnx.ModelProto:
    """With its external data, which must lie beside it under a name that is part of the checkpoint's hash."""
    try:
        model = onnx.load(str(path), load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location" and not (
                    entry.value.startswith("model.onnx") and "/" not in entry.value and "\\" not in entry.value
                ):
                    raise _refused(path, f"its weights lie in {entry.value}, not in model.onnx_data or model.onnx.data")
        onnx.load_external_data_for_model(model, str(path.parent))
    except (DecodeError, OSError, ValueError, onnx.checker.ValidationError) as error:
        raise CheckpointError(f"{path} is corrupt: {error}", "fetch or export it again") from error
    return model


def _check_inputs(model: onnx.ModelProto, path: Path) -> None:
    if not any(one.domain in ("", "ai.onnx") for one in model.opset_import):
        raise _refused(path, "it does not say of which opset it is")
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    for value in inputs:
        if value.name not in _INPUTS:
            raise _refused(path, f"input {value.name} is not understood ({', '.join(_INPUTS)} are)")
        if value.type.tensor_type.elem_type != TensorProto.INT64:
            raise _refused(path, f"input {value.name} is not int64")
    if missing := set(_INPUTS[:2]) - {value.name for value in inputs}:
        raise _refused(path, f"it has no input {', '.join(sorted(missing))}")


def _token_output(model: onnx.ModelProto, path: Path, usual: Sequence[str]) -> onnx.ValueInfoProto:
    """The output that holds the token vectors or logits: by its usual names, else the first float one of rank 3."""
    outputs: dict[str, onnx.ValueInfoProto] = {value.name: value for value in model.graph.output}
    for name in usual:
        if name in outputs:
            candidates = [outputs[name]]
            break
    else:
        candidates = list(outputs.values())
    for value in candidates:
        kind = value.type.tensor_type
        if kind.elem_type in (TensorProto.FLOAT, TensorProto.FLOAT16) and len(kind.shape.dim) == 3:
            return value
    raise _refused(path, f"none of its outputs ({', '.join(outputs)}) holds token vectors (rows, length, hidden)")


def _free_name(model: onnx.ModelProto, name: str) -> None:
    """Exports of sentence-transformers use the very names that the bundle's outputs have."""
    for node in model.graph.node:
        for names in (node.input, node.output):
            for i, found in enumerate(names):
                if found == name:
                    names[i] = f"{name}/found"


def _refused(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", "export the encoder again, for feature extraction")
