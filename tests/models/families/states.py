"""Builds a family's graph from tensors and runs it: what the tests of all families share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.graph import Graph
from models.native import FAMILIES
from models.weights import Array, Weights
from service.bundle import MODEL_ONNX, TOKEN_OUTPUT
from service.encoder import padded_feeds
from service.runtime.providers import CPU
from service.runtime.session import Session

ROWS = [[2, 9, 4, 17, 8, 3], [2, 3], [2, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 20, 21, 22, 23, 24, 3], [2, 5, 5, 3]]
"""Token ids of several lengths."""


def states(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Array], rows: Sequence[Sequence[int]] = ROWS
) -> list[Array]:
    """The last hidden state (its length, hidden) of each row, all of them in one padded batch."""
    graph = Graph()
    hidden = FAMILIES[config["model_type"]].build(graph, config, Weights(dict(tensors)))
    graph.output(hidden, TOKEN_OUTPUT, "rows", "length", "hidden")
    graph.save(folder)
    feeds = padded_feeds(rows, graph.inputs, int(config.get("pad_token_id", 0)))
    found = Session(folder / MODEL_ONNX, CPU, 1).run([TOKEN_OUTPUT], feeds)[0]
    return [state[: len(row)] for state, row in zip(found, rows, strict=True)]


def drawn(shapes: Mapping[str, tuple[int, ...]], seed: int = 0) -> dict[str, Array]:
    """Normal, wide enough that attention is far from uniform; scales of normalisations about 1."""
    rng = np.random.default_rng(seed)
    return {
        name: (rng.normal(0, 0.4, shape) + (1 if "norm" in name.lower() and name.endswith("weight") else 0)).astype(
            np.float32
        )
        for name, shape in shapes.items()
    }
