"""The native route: a checkpoint's weights → a graph, by the builder of its model type."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from models import bert, heads
from models.checkpoint import Checkpoint
from models.graph import Graph
from models.weights import Weights, read_weights
from service.errors import CheckpointError

Builder = Callable[[Graph, Mapping[str, Any], Weights], str]
"""Declares input_ids and attention_mask, returns the last hidden state (rows, length, hidden)."""

FAMILIES: dict[str, Builder] = {"bert": bert.encode}
"""config.json's model_type → its builder. A new family is one file and one entry."""


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
    hidden = builder(graph, checkpoint.config, read_weights(sorted(checkpoint.folder.glob("*.safetensors"))))
    heads.append(graph, hidden, "attention_mask", checkpoint)
    return graph
