"""From token vectors to logits: the heads of transformers' …ForSequenceClassification, in the graph itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.activations import activate
from models.checkpoint import Checkpoint
from models.classification import Classifier
from models.graph import Graph
from models.modules import Pooling
from models.poolings import pool
from models.weights import Weights
from service.bundle import SCORE_OUTPUT
from service.errors import CheckpointError

_OTHER_ROUTE = "put an ONNX export of the whole classifier into the folder as onnx/model.onnx, and use --route onnx"
_ENCODERS = ("bert.", "nomic_bert.", "gte.", "new.")
_ACTIVATIONS = ("gelu", "relu", "tanh", "silu")


@dataclass(frozen=True)
class Head:
    """What a head is built from: `hidden` is a value (rows, length, width), `mask` (rows, length) int64."""

    graph: Graph
    hidden: str
    mask: str
    config: Mapping[str, Any]
    weights: Weights
    width: int
    labels: int

    @property
    def first(self) -> str:
        """The first token's vector (rows, width)."""
        return pool(self.graph, self.hidden, self.mask, Pooling(("cls",)))

    def linear(self, value: str, name: str, out: int, *, bias: bool = True, weights: Weights | None = None) -> str:
        """x · weightᵀ + bias: (rows, width) → (rows, out)."""
        get = (weights or self.weights).get
        product = self.graph.op(
            "MatMul", value, self.graph.constant(get(f"{name}.weight", out, self.width).T, f"{name}.weight")
        )
        if not bias:
            return product
        return self.graph.op("Add", product, self.graph.constant(get(f"{name}.bias", out), f"{name}.bias"))

    def activated(self, value: str, name: str) -> str:
        """By transformers' name of an activation, of those whose formula is torch's. Raises CheckpointError."""
        if name not in _ACTIVATIONS:
            raise CheckpointError(
                f"config.json: the head's activation {name} is not supported ({', '.join(_ACTIVATIONS)} are)",
                _OTHER_ROUTE,
            )
        return activate(self.graph, value, name)


def append(
    graph: Graph, hidden: str, mask: str, checkpoint: Checkpoint, classifier: Classifier, weights: Weights
) -> None:
    """`weights` by the names of the whole checkpoint. Declares the output (rows, labels). Raises CheckpointError."""
    config, labels = checkpoint.config, len(classifier.labels)
    model_type = str(config.get("model_type"))
    if model_type not in HEADS:
        raise CheckpointError(
            f"the classification head of model_type {model_type!r} cannot be built ({', '.join(HEADS)} can)",
            _OTHER_ROUTE,
        )
    head = Head(graph, hidden, mask, config, weights, checkpoint.hidden_size, labels)
    graph.output(HEADS[model_type](head), SCORE_OUTPUT, "rows", labels)


def _pooler(head: Head) -> str:
    """BERT, NomicBERT and GTE: dense and tanh on the first token, which belong to the encoder, then the classifier."""
    encoder = head.weights.below("pooler.dense.weight", *_ENCODERS)
    pooled = head.activated(head.linear(head.first, "pooler.dense", head.width, weights=encoder), "tanh")
    return head.linear(pooled, "classifier", head.labels)


def _projected(head: Head, activation: str) -> str:
    """RoBERTa, MPNet (tanh) and ELECTRA (GELU): dense, activation, projection of the first token."""
    dense = head.activated(head.linear(head.first, "classifier.dense", head.width), activation)
    return head.linear(dense, "classifier.out_proj", head.labels)


def _distilbert(head: Head) -> str:
    """A dense layer and ReLU on the first token, then the classifier."""
    dense = head.activated(head.linear(head.first, "pre_classifier", head.width), "relu")
    return head.linear(dense, "classifier", head.labels)


def _modernbert(head: Head) -> str:
    """The first token or the mean of all, dense, activation, LayerNorm, then the classifier."""
    config = head.config
    pooling = config.get("classifier_pooling", "cls")
    if pooling not in ("cls", "mean"):
        raise CheckpointError(
            f"config.json: classifier_pooling {pooling} is not supported (cls and mean are)",
            _OTHER_ROUTE,
        )
    pooled = pool(head.graph, head.hidden, head.mask, Pooling((pooling,)))
    dense = head.linear(pooled, "head.dense", head.width, bias=bool(config.get("classifier_bias", False)))
    active = head.activated(dense, str(config.get("classifier_activation", "gelu")))
    return head.linear(_normed(head, active), "classifier", head.labels)


def _normed(head: Head, value: str) -> str:
    bias = (
        head.weights.get("head.norm.bias", head.width)
        if head.config.get("norm_bias", False)
        else np.zeros(head.width, np.float32)
    )
    return head.graph.op(
        "LayerNormalization",
        value,
        head.graph.constant(head.weights.get("head.norm.weight", head.width), "head.norm.weight"),
        head.graph.constant(bias, "head.norm.bias"),
        axis=-1,
        epsilon=float(head.config.get("norm_eps", 1e-5)),
    )


HEADS: dict[str, Callable[[Head], str]] = {
    "bert": _pooler,
    "nomic_bert": _pooler,
    "gte": _pooler,
    "new": _pooler,
    "roberta": lambda head: _projected(head, "tanh"),
    "xlm-roberta": lambda head: _projected(head, "tanh"),
    "camembert": lambda head: _projected(head, "tanh"),
    "mpnet": lambda head: _projected(head, "tanh"),
    "electra": lambda head: _projected(head, "gelu"),
    "distilbert": _distilbert,
    "modernbert": _modernbert,
}
"""config.json's model_type → its head: Head → the value of the logits (rows, labels)."""
