"""The head with which a masked language model guesses hidden words: transform, normalise, multiply by the vocabulary.

The formulas are those of transformers' …ForMaskedLM. Families differ in the names of tensors and settings alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.checkpoint import Checkpoint
from models.graph import CONTRIB, Graph
from models.weights import Weights
from service.errors import CheckpointError

# transformers' name → operator, contributed ones among them. The tanh approximations differ only in how they are
# written down.
_ACTIVATIONS = {
    "gelu": "Gelu",
    "gelu_new": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}


@dataclass(frozen=True)
class _Names:
    """Tensors and settings. The first of `biases` that is there counts; `activation` and `epsilon` are config.json's
    keys, with transformers' defaults, or None for what cannot be set."""

    dense: str
    norm: str
    decoder: str
    biases: tuple[str, ...]
    words: str  # the embedding matrix, which is the decoder's where the two are tied
    activation: str | None = None
    epsilon: tuple[str, float] = ("layer_norm_eps", 1e-12)


def _lm_head(encoder: str) -> _Names:
    return _Names(
        "lm_head.dense",
        "lm_head.layer_norm",
        "lm_head.decoder.weight",
        ("lm_head.bias", "lm_head.decoder.bias"),
        f"{encoder}.embeddings.word_embeddings.weight",
    )


_FAMILIES = {
    "bert": _Names(
        "cls.predictions.transform.dense",
        "cls.predictions.transform.LayerNorm",
        "cls.predictions.decoder.weight",
        ("cls.predictions.bias", "cls.predictions.decoder.bias"),
        "bert.embeddings.word_embeddings.weight",
        activation="hidden_act",
    ),
    "distilbert": _Names(
        "vocab_transform",
        "vocab_layer_norm",
        "vocab_projector.weight",
        ("vocab_projector.bias",),
        "distilbert.embeddings.word_embeddings.weight",
        activation="activation",
    ),
    "roberta": _lm_head("roberta"),
    "xlm-roberta": _lm_head("roberta"),
    "camembert": _lm_head("roberta"),
    "mpnet": _lm_head("mpnet"),
    "modernbert": _Names(
        "head.dense",
        "head.norm",
        "decoder.weight",
        ("decoder.bias",),
        "model.embeddings.tok_embeddings.weight",
        activation="classifier_activation",
        epsilon=("norm_eps", 1e-5),
    ),
}
"""config.json's model_type → where its head is."""


class MlmHead:
    """The head of one checkpoint, on one graph."""

    def __init__(self, graph: Graph, checkpoint: Checkpoint, weights: Weights) -> None:
        """Raises CheckpointError where the family, a setting or a tensor does not fit."""
        model_type = str(checkpoint.config.get("model_type"))
        if model_type not in _FAMILIES:
            raise CheckpointError(
                f"model_type {model_type!r} has no known head for masked words ({', '.join(_FAMILIES)} have)",
                "put an ONNX export with `logits` into the folder as onnx/model.onnx and compile it",
            )
        self._graph = graph
        self._names = _FAMILIES[model_type]
        self._config = checkpoint.config
        self._weights = weights
        self._hidden = checkpoint.hidden_size
        self._vocabulary = checkpoint.vocab_size
        self._decoder = weights.get(self._decoder_name(), self._vocabulary, self._hidden)
        found = [name for name in self._names.biases if weights.has(name)]
        self._bias = weights.get((found or self._names.biases)[0], self._vocabulary)

    def transform(self, hidden: str) -> str:
        """(rows, length, hidden) → the same shape."""
        graph, names, size = self._graph, self._names, self._hidden
        weight = graph.constant(self._weights.get(f"{names.dense}.weight", size, size).T, f"{names.dense}.weight")
        dense = graph.op("MatMul", hidden, weight)
        if self._weights.has(f"{names.dense}.bias"):
            dense = graph.op("Add", dense, self._vector(f"{names.dense}.bias"))
        return self._normalized(self._activated(dense))

    def products(self, transformed: str, start: int, stop: int) -> str:
        """(rows, length, hidden) → (rows, length, stop - start): logits without their bias."""
        matrix = np.ascontiguousarray(self._decoder[start:stop].T)
        return self._graph.op("MatMul", transformed, self._graph.constant(matrix, f"{self._names.decoder}.{start}"))

    def bias(self, start: int = 0, stop: int | None = None) -> str:
        """(stop - start,)."""
        return self._graph.constant(self._bias[start:stop], f"{self._names.biases[0]}.{start}")

    def _decoder_name(self) -> str:
        return self._names.words if self._config.get("tie_word_embeddings", True) else self._names.decoder

    def _activated(self, value: str) -> str:
        name = "gelu" if self._names.activation is None else str(self._config.get(self._names.activation, "gelu"))
        if name not in _ACTIVATIONS:
            raise CheckpointError(
                f"config.json: {self._names.activation} {name} is not supported ({', '.join(_ACTIVATIONS)} are)",
                "this model cannot be compiled from its weights; try its ONNX file",
            )
        kind = _ACTIVATIONS[name]
        return self._graph.op(kind, value, domain="" if kind == "Relu" else CONTRIB)

    def _normalized(self, value: str) -> str:
        norm = self._names.norm
        bias = [self._vector(f"{norm}.bias")] if self._weights.has(f"{norm}.bias") else []
        key, default = self._names.epsilon
        epsilon = float(self._config.get(key, default))
        return self._graph.op(
            "LayerNormalization", value, self._vector(f"{norm}.weight"), *bias, axis=-1, epsilon=epsilon
        )

    def _vector(self, name: str) -> str:
        return self._graph.constant(self._weights.get(name, self._hidden), name)
