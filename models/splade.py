"""SPLADE (Formal et al., arXiv:2109.10086): a weight for each token of the vocabulary, from the head that a masked
language model guesses hidden words with.

    w_j = max over tokens i of log(1 + relu(logit_ij))      pooling_strategy "max"
    w_j = sum over tokens i of log(1 + relu(logit_ij))      pooling_strategy "sum" (arXiv:2107.05720)

and log(1 + …) once more where the activation is log1p_relu (arXiv:2504.14839). The files are those of
sentence-transformers' SparseEncoder.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import numpy as np
from onnx import TensorProto
from pydantic import Field

from models.checkpoint import Checkpoint, Kind, described
from models.descriptions import Described, parse, read_json, refuse_unknown, refused
from models.graph import Graph
from models.mlm_head import MlmHead
from models.modules import Modules, Pooling, module_list
from models.recipe import PoolingChoice
from models.weights import Weights
from service.bundle import SPARSE_OUTPUT
from service.errors import CheckpointError

KIND = Kind(("SparseEncoder",), "fill-mask", "logits")

# Entries of the vocabulary whose logits are there at once: 512 tokens of 30,522 would be 62 MB for each executor.
_SLICE = 4096


@dataclass(frozen=True)
class Splade:
    """How logits become weights. `max_active_dimensions`: only so many of the largest are kept."""

    strategy: Literal["max", "sum"] = "max"
    activation: Literal["relu", "log1p_relu"] = "relu"
    max_active_dimensions: int | None = None


class _Pooling(Described):
    pooling_strategy: Literal["max", "sum"] = "max"
    activation_function: Literal["relu", "log1p_relu"] = "relu"
    embedding_dimension: int | None = None
    word_embedding_dimension: int | None = None
    chunk_size: int | None = None  # a matter of memory in torch


class _Saved(Described):
    max_active_dims: int | None = Field(None, ge=1)


def is_splade(root: Path) -> bool:
    """Whether modules.json says that it is a SparseEncoder's."""
    saved = read_json(root / "config_sentence_transformers.json", optional=True)
    if saved.get("model_type") == "SparseEncoder":
        return True
    path = root / "modules.json"
    return path.is_file() and any(kind in ("SpladePooling", "MLMTransformer") for kind, _ in module_list(path))


def read_splade(root: Path, pooling: PoolingChoice | None) -> Checkpoint:
    """A SparseEncoder's folder; with pooling "splade" also that of a plain masked language model.

    Raises CheckpointError for what is missing, malformed or not understood.
    """
    path = root / "modules.json"
    if not path.is_file():
        return _checkpoint(root, root, Splade())
    if pooling is not None:
        raise CheckpointError(f"--pooling {pooling} contradicts {path}, which names the pooling", "leave --pooling out")
    modules = module_list(path)
    kinds = [kind for kind, _ in modules]
    if len(kinds) != 2 or kinds[0] not in ("Transformer", "MLMTransformer") or kinds[1] != "SpladePooling":
        raise refused(path, f"the modules are {', '.join(kinds)}; MLMTransformer, SpladePooling is understood")
    config = modules[1][1] / "config.json"
    found = parse(_Pooling, config)
    refuse_unknown(config, found.model_extra or {})
    saved = parse(_Saved, root / "config_sentence_transformers.json", optional=True)
    splade = Splade(found.pooling_strategy, found.activation_function, saved.max_active_dims)
    return _checkpoint(root, modules[0][1], splade)


def _checkpoint(root: Path, folder: Path, splade: Splade) -> Checkpoint:
    common = described(root, Modules(folder, Pooling(())), KIND)
    architectures = common.config.get("architectures") or ()
    if not any(str(name).endswith("ForMaskedLM") for name in architectures):
        raise refused(folder / "config.json", f"architectures {list(architectures)} have no head for masked words")
    return replace(common, task="sparse", splade=splade)


# ---------------------------------------------------------------------------------------------- the graph


def append(graph: Graph, hidden: str, mask: str, checkpoint: Checkpoint, weights: Weights) -> None:
    """`hidden` (rows, length, hidden), `mask` (rows, length) int64 → output (rows, vocabulary).

    The vocabulary is taken in slices, so that a batch's logits are never all there at once; what is the same for all
    tokens, or keeps their order, comes after the maximum. Raises CheckpointError where the head's tensors do not fit.
    """
    head = MlmHead(graph, checkpoint, weights)
    transformed = head.transform(hidden)
    splade = _of(checkpoint)
    edges = [*range(0, checkpoint.vocab_size, _SLICE), checkpoint.vocab_size]
    if splade.strategy == "max":
        repeated = _padding_repeats_the_first(graph, transformed, mask)
        slices = [graph.reduce("ReduceMax", head.products(repeated, *edge), 1) for edge in pairwise(edges)]
        weighed = _weigh(graph, graph.op("Add", _joined(graph, slices), head.bias()), splade)
    else:
        logits = [graph.op("Add", head.products(transformed, *edge), head.bias(*edge)) for edge in pairwise(edges)]
        weighed = _joined(graph, [_sum(graph, _weigh(graph, one, splade), mask) for one in logits])
    graph.output(weighed, SPARSE_OUTPUT, "rows", checkpoint.vocab_size)


def append_to_logits(graph: Graph, logits: str, mask: str, checkpoint: Checkpoint) -> None:
    """The same where the logits (rows, length, vocabulary) are a found graph's own."""
    splade = _of(checkpoint)
    if splade.strategy == "max":
        kept = graph.cast(graph.op("Unsqueeze", mask, graph.constant(np.array([-1]))), TensorProto.BOOL)
        zero = graph.constant(np.array(0, np.float32))  # what is below it weighs nothing either
        weighed = _weigh(graph, graph.reduce("ReduceMax", graph.op("Where", kept, logits, zero), 1), splade)
    else:
        weighed = _sum(graph, _weigh(graph, logits, splade), mask)
    graph.output(weighed, SPARSE_OUTPUT, "rows", checkpoint.vocab_size)


def _of(checkpoint: Checkpoint) -> Splade:
    assert checkpoint.splade is not None
    return checkpoint.splade


def _padding_repeats_the_first(graph: Graph, values: str, mask: str) -> str:
    """(rows, length, hidden) with every masked token made equal to the row's first, which changes no maximum."""
    kept = graph.cast(graph.op("Unsqueeze", mask, graph.constant(np.array([-1]))), TensorProto.BOOL)
    first = graph.op("Gather", values, graph.constant(np.array([0])), axis=1)  # (rows, 1, hidden)
    return graph.op("Where", kept, values, first)


def _weigh(graph: Graph, logits: str, splade: Splade) -> str:
    one = graph.constant(np.array(1, np.float32))
    weighed = graph.op("Log", graph.op("Add", graph.op("Relu", logits), one))
    return graph.op("Log", graph.op("Add", weighed, one)) if splade.activation == "log1p_relu" else weighed


def _sum(graph: Graph, values: str, mask: str) -> str:
    """(rows, length, width) → (rows, width), over the tokens whose mask is 1."""
    shares = graph.cast(graph.op("Unsqueeze", mask, graph.constant(np.array([1]))), TensorProto.FLOAT)
    return graph.op("Squeeze", graph.op("MatMul", shares, values), graph.constant(np.array([1])))


def _joined(graph: Graph, slices: list[str]) -> str:
    return graph.op("Concat", *slices, axis=-1)
