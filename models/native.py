"""The native route: a checkpoint's weights → a graph, by the builder of its model type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models import bert, bert_int8, heads
from models.checkpoint import Checkpoint
from models.graph import Graph
from models.weights import Array, Weights, read_weights
from service.errors import CheckpointError

Builder = Callable[[Graph, Mapping[str, Any], Weights], str]
"""Declares input_ids and attention_mask, returns the last hidden state (rows, length, hidden)."""

FAMILIES: dict[str, Builder] = {"bert": bert.encode}
"""config.json's model_type → its builder. A new family is one file and one entry."""

Int8Builder = Callable[[Graph, Mapping[str, Any], Weights, Mapping[str, Array]], str]
"""The same with 8-bit weights; it also takes what `calibrate.peaks` gives."""

INT8_FAMILIES: dict[str, Int8Builder] = {"bert": bert_int8.encode}


def build(checkpoint: Checkpoint) -> Graph:
    """The whole graph, from token ids to the sentence vector. Raises CheckpointError."""
    model_type = checkpoint.config.get("model_type")
    builder = FAMILIES.get(str(model_type))
    if builder is None:
        raise CheckpointError(
            f"model_type {model_type!r} cannot be built from its weights ({', '.join(FAMILIES)} can)",
            "put an ONNX export of the encoder into the folder as onnx/model.onnx and compile with --route onnx",
        )
    graph = Graph()
    hidden = builder(graph, checkpoint.config, _weights(checkpoint))
    heads.append(graph, hidden, "attention_mask", checkpoint)
    return graph


def build_int8(checkpoint: Checkpoint, peaks: Mapping[str, Array]) -> Graph:
    """The same graph with the matrices of its layers in 8 bits. Raises CheckpointError."""
    model_type = checkpoint.config.get("model_type")
    builder = INT8_FAMILIES.get(str(model_type))
    if builder is None:
        raise CheckpointError(f"model_type {model_type!r} has no int8 graph", "leave --precision out")
    graph = Graph()
    hidden = builder(graph, checkpoint.config, _weights(checkpoint), peaks)
    heads.append(graph, hidden, "attention_mask", checkpoint)
    return graph


def _weights(checkpoint: Checkpoint) -> Weights:
    return read_weights(sorted(checkpoint.folder.glob("*.safetensors")))
