"""Every family's graph as GPUs have it: hidden states in float16, and in operators of ONNX alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models.graph import Graph
from models.half import as_on_a_gpu, to_half
from models.plain import to_plain
from models.weights import Array
from service.bundle import MODEL_ONNX, TOKEN_OUTPUT
from service.encoder import padded_feeds
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.runtime.session import Session
from tests.models import tiny
from tests.models.families.states import ROWS, states
from tests.models.families.test_relatives import MPNET, renamed
from tests.models.families.test_rotary import GTE, LONG, MODERNBERT, NOMIC, gated_weights, modernbert_weights

MINIMUM = 0.9995
Tensors = Mapping[str, Array]
Change = Callable[[Graph], None]


def mpnet_weights() -> dict[str, Array]:
    table = np.random.default_rng(2).normal(0, 1, (32, tiny.HEADS)).astype(np.float32)
    return renamed(tiny.weights(), MPNET) | {"encoder.relative_attention_bias.weight": table}


MPNET_CONFIG = tiny.config() | {"model_type": "mpnet"}
SEGMENTS = {"type_vocab_size": 2}
GATED: list[tuple[dict[str, Any], Tensors]] = [
    (MODERNBERT, modernbert_weights()),
    (NOMIC | SEGMENTS, gated_weights(biases=False)),
    (GTE | SEGMENTS, gated_weights(biases=True)),
]


def changed(folder: Path, change: Change, rows: list[list[int]], *, rounded: bool) -> list[Array]:
    """The states of the graph in `folder`, after `change`."""
    graph = Graph(onnx.load(str(folder / MODEL_ONNX)))
    change(graph)
    if rounded:
        graph = Graph(as_on_a_gpu(graph.model))
    graph.save(folder)
    found = Session(folder / MODEL_ONNX, CPU, 1).run([TOKEN_OUTPUT], padded_feeds(rows, graph.inputs, 0))[0]
    return [state[: len(row)] for state, row in zip(found, rows, strict=True)]


@pytest.mark.parametrize(("config", "weights"), [(MPNET_CONFIG, mpnet_weights()), *GATED])
@pytest.mark.parametrize("rows", [ROWS, [LONG]])
def test_float16_gives_nearly_the_same(
    tmp_path: Path, config: dict[str, Any], weights: Tensors, rows: list[list[int]]
) -> None:
    """A batch, and a long row alone, which some families compute another way."""
    if config["model_type"] == "mpnet":
        rows = ROWS  # it has no positions for more
    expected = states(tmp_path, config, weights, rows)
    for one, other in zip(expected, changed(tmp_path, to_half, rows, rounded=True), strict=True):
        cosine = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
        assert cosine.min() >= MINIMUM
        assert not np.array_equal(one, other)


def test_plain_operators_know_a_bias_by_distance(tmp_path: Path) -> None:
    expected = states(tmp_path, MPNET_CONFIG, mpnet_weights())
    for one, other in zip(expected, changed(tmp_path, to_plain, ROWS, rounded=False), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("config", "weights"), GATED)
def test_rotary_families_are_not_written_for_tensorrt(tmp_path: Path, config: dict[str, Any], weights: Tensors) -> None:
    states(tmp_path, config, weights)
    with pytest.raises(CheckpointError, match="take --target cuda"):
        changed(tmp_path, to_plain, ROWS, rounded=False)
