"""Graphs for CUDA that leave padding out: the same vectors, by the operators that only its kernels know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from models import native, packed
from models.checkpoint import read_checkpoint
from models.graph import Graph
from models.skip_norm import fuse
from models.verify import check
from service.bundle import MODEL_ONNX, read_bundle
from service.encoder import padded_feeds
from service.errors import StartupError
from service.runtime.providers import CPU
from service.runtime.session import Session
from service.runtime.wheel import ort
from tests.models.conftest import Compile
from tests.models.families.states import states
from tests.models.families.test_targets import MPNET_CONFIG, mpnet_weights
from tests.models.tiny import HIDDEN, Tiny

ROWS = [[1, 5, 6, 7, 2], [1, 2], [1, 9, 8, 7, 6, 5, 4, 2], [1, 3, 2]]
PACKED = ["PackedAttention", "RemovePadding", "RestorePadding"]


def kinds(graph: Graph) -> list[str]:
    return [node.op_type for node in graph.model.graph.node]


def results(folder: Path, model: onnx.ModelProto) -> list[Any]:
    """Of all outputs, for ROWS in one batch; where they are tokens' states, of real tokens."""
    folder.mkdir()
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    graph.save(folder)
    outputs = [one.name for one in model.graph.output]
    found = Session(folder / MODEL_ONNX, CPU, 1).run(outputs, padded_feeds(ROWS, graph.inputs, 0))
    return [
        np.concatenate([row[: len(ids)] for row, ids in zip(one, ROWS, strict=True)]) if one.ndim == 3 else one
        for one in found
    ]


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_vectors_are_those_of_the_padded_graph(tmp_path: Path, pooling: str) -> None:
    """No matter where padding lies: what pools sees it where it was."""
    folder = Tiny(pooling={"pooling_mode": pooling, "embedding_dimension": HIDDEN}).write(tmp_path / "tiny")
    graph = native.build(read_checkpoint(folder))
    expected = results(tmp_path / "padded", graph.model)
    assert packed.pack(graph)
    assert [kind for kind in kinds(graph) if kind in PACKED] == [
        "RemovePadding",
        "PackedAttention",
        "PackedAttention",
        "RestorePadding",
    ]
    for one, other in zip(expected, results(tmp_path / "packed", packed.as_padded(graph.model)), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_nothing_but_embeddings_and_the_head_computes_padding(tmp_path: Path) -> None:
    graph = native.build(read_checkpoint(Tiny().write(tmp_path / "tiny")))
    fuse(graph)
    packed.pack(graph)
    found = kinds(graph)
    inside = found[found.index("RemovePadding") + 1 : found.index("RestorePadding")]
    of_tokens = [kind for kind in inside if kind not in ("Cast", "Unsqueeze")]  # of the mask, which pooling reads
    assert set(of_tokens) == {"PackedAttention", "MatMul", "BiasGelu", "SkipLayerNormalization"}
    assert "MatMul" not in found[: found.index("RemovePadding")]


def test_additions_are_fused_with_what_normalises_them(tmp_path: Path) -> None:
    """Two a layer; the one of words and positions stays, as positions are one row for all."""
    graph = native.build(read_checkpoint(Tiny().write(tmp_path / "tiny")))
    before, expected = kinds(graph), results(tmp_path / "apart", graph.model)
    fuse(graph)
    found = kinds(graph)
    assert (before.count("LayerNormalization"), found.count("LayerNormalization")) == (5, 1)
    assert found.count("SkipLayerNormalization") == 4
    for one, other in zip(expected, results(tmp_path / "fused", graph.model), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_a_bundle_for_cuda_is_packed_and_can_be_checked_here(tmp_path: Path, compiled: Compile, precision: str) -> None:
    folder = compiled(Tiny().write(tmp_path / "tiny"), target="cuda", precision=precision)
    assert read_bundle(folder).packed
    assert set(PACKED) <= set(kinds(Graph(onnx.load(folder / MODEL_ONNX))))
    assert check(folder).passed


def test_only_kernels_are_missing_here(tmp_path: Path, compiled: Compile) -> None:
    """ONNX Runtime checks operators, types and shapes before it looks for kernels."""
    folder = compiled(Tiny().write(tmp_path / "tiny"), target="cuda", precision="fp16")
    with pytest.raises(Exception, match=r"NOT_IMPLEMENTED.*RemovePadding"):
        ort.InferenceSession(str(folder / MODEL_ONNX), providers=["CPUExecutionProvider"])


def test_padding_can_be_kept(tmp_path: Path, compiled: Compile) -> None:
    folder = compiled(Tiny().write(tmp_path / "tiny"), target="cuda", precision="fp16", keep_padding=True)
    assert not read_bundle(folder).packed
    assert not set(PACKED) & set(kinds(Graph(onnx.load(folder / MODEL_ONNX))))
    with pytest.raises(StartupError, match="--keep-padding is for CUDA"):
        compiled(Tiny().write(tmp_path / "other"), keep_padding=True)


def test_a_bias_by_distance_keeps_its_padding(tmp_path: Path) -> None:
    states(tmp_path, MPNET_CONFIG, mpnet_weights())
    graph = Graph(onnx.load(str(tmp_path / MODEL_ONNX)))
    before = kinds(graph)
    assert not packed.pack(graph)
    assert kinds(graph) == before
