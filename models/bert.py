"""BERT (Devlin et al., 2018) from its weights: post-norm transformer encoder with absolute positions.

The graph is written for ONNX Runtime's CPU kernels: Attention with its projections inside and BiasGelu fused,
LayerNormalization apart from its addition (the fused kernel is about 5 times slower). Attention writes queries, keys
and values where it needs them, which is about 3 % of the whole faster on the bulk mix than a MatMul each and
MultiHeadAttention. 85 % of the time are multiplications of matrices, at 95 % of what the cores can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, ValidationError

from models.graph import CONTRIB, Graph
from models.weights import Array, Weights
from service.errors import CheckpointError


class BertConfig(BaseModel):
    """The part of config.json that shapes the graph, with the defaults of transformers' BertConfig."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    position_embedding_type: str | None = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False


def read_config(config: Mapping[str, Any]) -> BertConfig:
    """Raises CheckpointError for what this graph would get wrong."""
    try:
        found = BertConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise _refused(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    if found.position_embedding_type not in (None, "absolute"):
        raise _refused(f"position_embedding_type {found.position_embedding_type} is not supported (absolute is)")
    if found.hidden_act not in _ACTIVATIONS:
        raise _refused(f"hidden_act {found.hidden_act} is not supported ({', '.join(_ACTIVATIONS)} are)")
    if found.is_decoder or found.add_cross_attention:
        raise _refused("a decoder (is_decoder, add_cross_attention) is not a BERT encoder")
    if found.hidden_size % found.num_attention_heads:
        raise _refused(f"hidden_size {found.hidden_size} is not a multiple of {found.num_attention_heads} heads")
    return found


def _refused(reason: str) -> CheckpointError:
    return CheckpointError(
        f"config.json: {reason}", "this model cannot be compiled from its weights; try its ONNX file"
    )


def encode(graph: Graph, raw_config: Mapping[str, Any], weights: Weights) -> str:
    """input_ids, attention_mask (rows, length) → last hidden state (rows, length, hidden).

    Raises CheckpointError for a configuration or a tensor that does not fit.
    """
    return Bert(graph, raw_config, weights).encode()


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a LayerNormalization gives: to the matrices that read it, and to the addition that goes around them."""

    read: str
    kept: str


class Bert:
    """The layers of one model, appended to one graph. Values are (rows, length, hidden) unless they say otherwise."""

    def __init__(self, graph: Graph, raw_config: Mapping[str, Any], weights: Weights) -> None:
        self._graph = graph
        self._config = read_config(raw_config)
        self._weights = weights.below("bert.", "embeddings.word_embeddings.weight")

    def encode(self) -> str:
        """Appends all of it; the last hidden state."""
        mask = self._graph.cast(self._graph.input("attention_mask"), TensorProto.INT32)
        hidden = self._embed(self._graph.input("input_ids"))
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, mask, layer)
        return hidden.kept

    def _embed(self, input_ids: str) -> Hidden:
        """Every text is a first segment, so its row of the segment table is folded into the positions."""
        graph, config, get = self._graph, self._config, self._weights.get
        words = get("embeddings.word_embeddings.weight", config.vocab_size, config.hidden_size)
        positions = get("embeddings.position_embeddings.weight", config.max_position_embeddings, config.hidden_size)
        segments = get("embeddings.token_type_embeddings.weight", config.type_vocab_size, config.hidden_size)
        length = graph.op("Shape", input_ids, start=1, end=2)
        zero = graph.constant(np.array([0]))
        table = graph.constant(positions + segments[0], "embeddings.positions")
        embedded = graph.op(
            "Add",
            graph.op("Gather", graph.constant(words, "embeddings.words"), input_ids),
            graph.op("Slice", table, zero, length, zero),  # (length, hidden)
        )
        return self._norm(embedded, "embeddings.LayerNorm", self._projections(0))

    def _layer(self, hidden: Hidden, mask: str, layer: int) -> Hidden:
        name, add = f"encoder.layer.{layer}.", self._graph.op
        attended = self._linear(self._attention(hidden, mask, layer), f"{name}attention.output.dense")
        hidden = self._norm(
            add("Add", attended, hidden.kept), f"{name}attention.output.LayerNorm", self._widening(layer)
        )
        narrow = self._linear(self._intermediate(hidden, layer), f"{name}output.dense", self._config.intermediate_size)
        following = self._projections(layer + 1) if layer + 1 < self._config.num_hidden_layers else None
        return self._norm(add("Add", narrow, hidden.kept), f"{name}output.LayerNorm", following)

    # --- weights; torch keeps them as (out, in) ---------------------------------------------------------------

    def _projections(self, layer: int) -> Array:
        """Queries, keys and values side by side: (hidden, 3 · hidden)."""
        size = self._config.hidden_size
        return np.concatenate([self._weights.get(f"{name}.weight", size, size).T for name in _qkv(layer)], axis=1)

    def _projection_biases(self, layer: int) -> Array:
        """(3 · hidden,)."""
        return np.concatenate([self._weights.get(f"{name}.bias", self._config.hidden_size) for name in _qkv(layer)])

    def _widening(self, layer: int) -> Array:
        """(hidden, intermediate)."""
        shape = self._config.intermediate_size, self._config.hidden_size
        return self._weights.get(f"encoder.layer.{layer}.intermediate.dense.weight", *shape).T

    # --- what another precision does in its own way -----------------------------------------------------------

    def _norm(self, value: str, name: str, reader: Array | None) -> Hidden:
        """`reader` (hidden, out) is the weight that multiplies it; None after the last layer."""
        normed = self._normalization(value, name)
        return Hidden(normed, normed)

    def _attention(self, hidden: Hidden, mask: str, layer: int) -> str:
        name = f"encoder.layer.{layer}.attention.self."
        return self._graph.op(
            "Attention",
            hidden.read,
            self._graph.constant(self._projections(layer), f"{name}weight"),
            self._graph.constant(self._projection_biases(layer), f"{name}bias"),
            mask,  # (rows, length) int32: keys whose mask is 0 get no attention
            domain=CONTRIB,
            num_heads=self._config.num_attention_heads,
        )

    def _intermediate(self, hidden: Hidden, layer: int) -> str:
        """(rows, length, intermediate)."""
        name = f"encoder.layer.{layer}.intermediate.dense"
        wide = self._graph.op("MatMul", hidden.read, self._graph.constant(self._widening(layer), f"{name}.weight"))
        return self._activated(wide, _ACTIVATIONS[self._config.hidden_act], name)

    def _linear(self, value: str, name: str, width: int = 0) -> str:
        """(…, width or hidden) → (…, hidden)."""
        size = self._config.hidden_size
        weight = self._graph.constant(self._weights.get(f"{name}.weight", size, width or size).T, f"{name}.weight")
        return self._graph.op("Add", self._graph.op("MatMul", value, weight), self._bias(name, size))

    # --- common to all ----------------------------------------------------------------------------------------

    def _activated(self, wide: str, op_type: str, name: str) -> str:
        bias = self._bias(name, self._config.intermediate_size)
        if op_type == "Relu":
            return self._graph.op("Relu", self._graph.op("Add", wide, bias))
        return self._graph.op(op_type, wide, bias, domain=CONTRIB)

    def _bias(self, name: str, size: int) -> str:
        return self._graph.constant(self._weights.get(f"{name}.bias", size), f"{name}.bias")

    def _normalization(self, value: str, name: str, unit: Array | float = 1.0) -> str:
        """In units (hidden,) of their own for each channel: that costs nothing here."""
        size = self._config.hidden_size
        scale, bias = (
            self._graph.constant((self._weights.get(f"{name}.{p}", size) / unit).astype(np.float32), f"{name}.{p}")
            for p in ("weight", "bias")
        )
        return self._graph.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._config.layer_norm_eps)


def _qkv(layer: int) -> list[str]:
    return [f"encoder.layer.{layer}.attention.self.{part}" for part in ("query", "key", "value")]


# transformers' name → the kernel that adds the bias and activates. The tanh approximations differ only in how
# they are written down.
_ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}
