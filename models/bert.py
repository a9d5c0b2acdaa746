"""BERT (Devlin et al., 2018) from its weights: post-norm transformer encoder with absolute positions.

The graph is written for ONNX Runtime's CPU kernels: Attention with its projections inside and BiasGelu fused,
LayerNormalization apart from its addition (the fused kernel is about 5 times slower). Attention writes queries, keys
and values where it needs them, which is 3 to 4 % of the whole faster on long texts than a MatMul each and
MultiHeadAttention. 85 % of the time are multiplications of matrices, at 95 % of what the cores can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, ValidationError

from models.graph import CONTRIB, Graph
from models.weights import Weights
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
    return _Bert(graph, read_config(raw_config), weights.below("bert.", "embeddings.word_embeddings.weight")).encode()


class _Bert:
    """The layers of one model, appended to one graph. Values are (rows, length, hidden) unless they say otherwise."""

    def __init__(self, graph: Graph, config: BertConfig, weights: Weights) -> None:
        self._graph = graph
        self._config = config
        self._weights = weights

    def encode(self) -> str:
        mask = self._graph.cast(self._graph.input("attention_mask"), TensorProto.INT32)
        hidden = self._embed(self._graph.input("input_ids"))
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, mask, f"encoder.layer.{layer}.")
        return hidden

    def _embed(self, input_ids: str) -> str:
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
        return self._norm(embedded, "embeddings.LayerNorm")

    def _layer(self, hidden: str, mask: str, name: str) -> str:
        add = self._graph.op
        attended = self._linear(
            self._attention(hidden, mask, f"{name}attention.self."), f"{name}attention.output.dense"
        )
        hidden = self._norm(add("Add", attended, hidden), f"{name}attention.output.LayerNorm")
        wide = self._intermediate(hidden, f"{name}intermediate.dense")
        narrow = self._linear(wide, f"{name}output.dense", width=self._config.intermediate_size)
        return self._norm(add("Add", narrow, hidden), f"{name}output.LayerNorm")

    def _attention(self, hidden: str, mask: str, name: str) -> str:
        size = self._config.hidden_size
        parts = ("query", "key", "value")
        weights = [self._weights.get(f"{name}{part}.weight", size, size).T for part in parts]
        biases = [self._weights.get(f"{name}{part}.bias", size) for part in parts]
        return self._graph.op(
            "Attention",
            hidden,
            self._graph.constant(np.concatenate(weights, axis=1), f"{name}weight"),  # (hidden, 3 · hidden)
            self._graph.constant(np.concatenate(biases), f"{name}bias"),
            mask,  # (rows, length) int32: keys whose mask is 0 get no attention
            domain=CONTRIB,
            num_heads=self._config.num_attention_heads,
        )

    def _intermediate(self, hidden: str, name: str) -> str:
        """(rows, length, intermediate)."""
        width = self._config.intermediate_size
        wide = self._matmul(hidden, f"{name}.weight", width, self._config.hidden_size)
        bias = self._graph.constant(self._weights.get(f"{name}.bias", width), f"{name}.bias")
        op_type = _ACTIVATIONS[self._config.hidden_act]
        if op_type == "Relu":
            return self._graph.op("Relu", self._graph.op("Add", wide, bias))
        return self._graph.op(op_type, wide, bias, domain=CONTRIB)

    def _linear(self, value: str, name: str, width: int = 0) -> str:
        """(…, width or hidden) → (…, hidden)."""
        size = self._config.hidden_size
        product = self._matmul(value, f"{name}.weight", size, width or size)
        return self._graph.op(
            "Add", product, self._graph.constant(self._weights.get(f"{name}.bias", size), f"{name}.bias")
        )

    def _matmul(self, value: str, name: str, rows: int, columns: int) -> str:
        """torch keeps weights as (out, in)."""
        return self._graph.op("MatMul", value, self._graph.constant(self._weights.get(name, rows, columns).T, name))

    def _norm(self, value: str, name: str) -> str:
        size = self._config.hidden_size
        scale, bias = (
            self._graph.constant(self._weights.get(f"{name}.{p}", size), f"{name}.{p}") for p in ("weight", "bias")
        )
        return self._graph.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._config.layer_norm_eps)


# transformers' name → the kernel that adds the bias and activates. The tanh approximations differ only in how
# they are written down.
_ACTIVATIONS = {
    "gelu": "BiasGelu",
    "gelu_new": "FastGelu",
    "gelu_fast": "FastGelu",
    "gelu_pytorch_tanh": "FastGelu",
    "relu": "Relu",
}
