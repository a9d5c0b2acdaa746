"""BERT (Devlin et al., 2018) from its weights: post-norm transformer encoder with absolute positions. With the seams in
which its relatives differ: where positions begin, segments or none, narrow word vectors, a bias by distance.

The graph is written for ONNX Runtime's CPU kernels: Attention with its projections inside and BiasGelu fused,
LayerNormalization apart from its addition (the fused kernel is about 5 times slower). Attention writes queries, keys
and values where it needs them, which is about 3 % of the whole faster on the bulk mix than a MatMul each and
MultiHeadAttention. 85 % of the time are multiplications of matrices, at 95 % of what the cores can do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto
from pydantic import BaseModel, ConfigDict, Field

from models.families.attention import Attention
from models.families.family import refused, validated
from models.graph import CONTRIB, Graph
from models.weights import Array, Weights

_LONG = 2048  # positions: up to there 12 heads' scores of one row take 200 MB, and the fused kernel is faster

MARKER = "embeddings.word_embeddings.weight"
"""A tensor that every relative has; where it stands, the others stand."""


class BertConfig(BaseModel):
    """The part of config.json that shapes the graph, with the defaults of transformers' BertConfig.

    The last three are no part of BERT's config.json: its relatives set them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int = Field(gt=0)
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int = 2  # 0: no segments
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    position_embedding_type: str | None = "absolute"
    is_decoder: bool = False
    add_cross_attention: bool = False

    padding_id: int | None = None  # positions begin behind it, and count the other tokens only; None: from 0, all
    embedding_size: int | None = None  # width of the word vectors; None: as wide as the layers
    relative_buckets: int = 0  # of a table that adds to attention's scores by distance


_OWN = {"padding_id", "embedding_size", "relative_buckets"}


def read_config(config: Mapping[str, Any], names: Mapping[str, str] | None = None, **own: Any) -> BertConfig:
    """`names` are those that config.json has for the fields, `own` is what the family knows without it.

    Raises CheckpointError for what this graph would get wrong.
    """
    described = {key: value for key, value in config.items() if key not in _OWN | own.keys()}
    found = validated(BertConfig, {**described, **own}, names)
    if found.position_embedding_type not in (None, "absolute"):
        raise refused(f"position_embedding_type {found.position_embedding_type} is not supported (absolute is)")
    if found.hidden_act not in _ACTIVATIONS:
        raise refused(f"hidden_act {found.hidden_act} is not supported ({', '.join(_ACTIVATIONS)} are)")
    if found.is_decoder or found.add_cross_attention:
        raise refused("a decoder (is_decoder, add_cross_attention) is not a BERT encoder")
    if found.hidden_size % found.num_attention_heads:
        raise refused(f"hidden_size {found.hidden_size} is not a multiple of {found.num_attention_heads} heads")
    return found


@dataclass(frozen=True, slots=True)
class Hidden:
    """What a LayerNormalization gives: to the matrices that read it, and to the addition that goes around them."""

    read: str
    kept: str


class Bert:
    """The layers of one model, appended to one graph. Values are (rows, length, hidden) unless they say otherwise."""

    def __init__(self, graph: Graph, config: BertConfig, weights: Weights) -> None:
        """`weights` by BERT's own names."""
        self._graph = graph
        self._config = config
        self._weights = weights

    def encode(self) -> str:
        """Appends all of it: input_ids, attention_mask (rows, length) → last hidden state (rows, length, hidden).

        Raises CheckpointError for a tensor that does not fit.
        """
        mask = self._graph.cast(self._graph.input("attention_mask"), TensorProto.INT32)
        hidden = self._embed(self._graph.input("input_ids"))
        for layer in range(self._config.num_hidden_layers):
            hidden = self._layer(hidden, mask, layer)
        return hidden.kept

    def _embed(self, input_ids: str) -> Hidden:
        words = self._weights.get(MARKER, self._config.vocab_size, self._width)
        embedded = self._graph.op("Gather", self._graph.constant(words, "embeddings.words"), input_ids)
        embedded = self._graph.op("Add", embedded, self._placed(input_ids))
        if self._width == self._config.hidden_size:
            return self._norm(embedded, "embeddings.LayerNorm", self._projections(0))
        narrow = self._normalization(embedded, "embeddings.LayerNorm")
        return self._widened(narrow)

    def _placed(self, input_ids: str) -> str:
        """The vectors of positions and segments, to be added to the words': (rows or 1, length, width).

        Where every text is a first segment, its row of the segments' table is folded into the positions.
        """
        graph, config = self._graph, self._config
        positions = self._weights.get(
            "embeddings.position_embeddings.weight", config.max_position_embeddings, self._width
        )
        if not config.type_vocab_size:
            return self._positions(positions, input_ids)
        segments = self._weights.get("embeddings.token_type_embeddings.weight", config.type_vocab_size, self._width)
        if "token_type_ids" not in graph.inputs:
            return self._positions(positions + segments[0], input_ids)
        table = graph.constant(segments, "embeddings.segments")
        return graph.op("Add", self._positions(positions, input_ids), graph.op("Gather", table, "token_type_ids"))

    def _positions(self, table: Array, input_ids: str) -> str:
        """The first rows of the table; or, where padding is not counted, those of each token's number behind it."""
        graph, padding = self._graph, self._config.padding_id
        rows = graph.constant(table, "embeddings.positions")
        if padding is None:
            zero = graph.constant(np.array([0]))
            return graph.op("Slice", rows, zero, graph.op("Shape", input_ids, start=1, end=2), zero)
        constant = graph.constant(np.array([padding]))
        counted = graph.cast(graph.op("Not", graph.op("Equal", input_ids, constant)), TensorProto.INT64)
        number = graph.op("Mul", graph.op("CumSum", counted, graph.constant(np.array([1]))), counted)
        return graph.op("Gather", rows, graph.op("Add", number, constant))

    @property
    def _width(self) -> int:
        """Of word vectors, positions and segments."""
        return self._config.embedding_size or self._config.hidden_size

    def _widened(self, narrow: str) -> Hidden:
        """(rows, length, width) → the first layer's input."""
        weight = self._weights.get("embeddings_project.weight", self._config.hidden_size, self._width)
        wide = self._graph.op("MatMul", narrow, self._graph.constant(weight.T, "embeddings_project.weight"))
        wide = self._graph.op("Add", wide, self._bias("embeddings_project", self._config.hidden_size))
        return Hidden(wide, wide)

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
        if self._is_long:
            return self._attended(self._projected(hidden, layer), layer)
        return self._graph.op(
            "Attention",
            hidden.read,
            self._graph.constant(self._projections(layer), f"{name}weight"),
            self._graph.constant(self._projection_biases(layer), f"{name}bias"),
            mask,  # (rows, length) int32: keys whose mask is 0 get no attention
            *(["", self._distance_bias] if self._config.relative_buckets else []),
            domain=CONTRIB,
            num_heads=self._config.num_attention_heads,
        )

    def _projected(self, hidden: Hidden, layer: int) -> str:
        """Queries, keys and values side by side: (rows, length, 3 · hidden), without their biases."""
        weight = self._graph.constant(self._projections(layer), f"encoder.layer.{layer}.attention.self.weight")
        return self._graph.op("MatMul", hidden.read, weight)

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

    @property
    def _is_long(self) -> bool:
        """Whether rows may be so long that all scores of one would take gigabytes."""
        return self._config.max_position_embeddings > _LONG and not self._config.relative_buckets

    @cached_property
    def _long_attention(self) -> Attention:
        return Attention(self._graph, "attention_mask", self._config.num_attention_heads, self._config.hidden_size)

    def _attended(self, projected: str, layer: int) -> str:
        """(rows, length, 3 · hidden), without biases → (rows, length, hidden)."""
        name = f"encoder.layer.{layer}.attention.self.bias"
        biased = self._graph.op("Add", projected, self._graph.constant(self._projection_biases(layer), name))
        return self._long_attention.everywhere(*self._graph.split(biased, [self._config.hidden_size] * 3))

    def _activated(self, wide: str, op_type: str, name: str) -> str:
        bias = self._bias(name, self._config.intermediate_size)
        if op_type == "Relu":
            return self._graph.op("Relu", self._graph.op("Add", wide, bias))
        return self._graph.op(op_type, wide, bias, domain=CONTRIB)

    def _bias(self, name: str, size: int) -> str:
        return self._graph.constant(self._weights.get(f"{name}.bias", size), f"{name}.bias")

    def _normalization(self, value: str, name: str, unit: Array | float = 1.0) -> str:
        """In units (hidden,) of their own for each channel: that costs nothing here."""
        size = self._width if name.startswith("embeddings.") else self._config.hidden_size
        scale, bias = (
            self._graph.constant((self._weights.get(f"{name}.{p}", size) / unit).astype(np.float32), f"{name}.{p}")
            for p in ("weight", "bias")
        )
        return self._graph.op("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._config.layer_norm_eps)

    @cached_property
    def _distance_bias(self) -> str:
        """(1, heads, length, length), of all layers."""
        graph, config = self._graph, self._config
        shape = config.relative_buckets, config.num_attention_heads
        table = self._weights.get("encoder.relative_attention_bias.weight", *shape)
        longest = config.max_position_embeddings
        by_distance = table[distance_buckets(np.arange(1 - longest, longest), config.relative_buckets)]
        length = graph.op("Shape", "input_ids", start=1, end=2)
        zero, one = (graph.constant(np.array(number)) for number in (0, 1))
        place = graph.op("Range", zero, graph.op("Squeeze", length), one)
        key, query = (graph.op("Unsqueeze", place, graph.constant(np.array([axis]))) for axis in (0, 1))
        distance = graph.op("Add", graph.op("Sub", key, query), graph.constant(np.array(longest - 1)))
        bias = graph.op("Gather", graph.constant(by_distance.T, "encoder.distance_bias"), distance, axis=1)
        return graph.op("Unsqueeze", bias, graph.constant(np.array([0])))


def distance_buckets(distance: NDArray[np.int64], buckets: int, furthest: int = 128) -> NDArray[np.int64]:
    """Key's place minus query's → the row of the table, as T5 (Raffel et al., 2020) has it.

    The upper half of the buckets is for keys behind the query. Of each half the first is for distances of their own,
    the second for distances that grow by a factor, up to `furthest`. In float32, as transformers counts.
    """
    half, exact = buckets // 2, buckets // 4
    away = np.abs(distance)
    growth = np.log(np.maximum(away, 1).astype(np.float32) / np.float32(exact)) / np.float32(np.log(furthest / exact))
    far = np.minimum(exact + (growth * np.float32(half - exact)).astype(np.int64), half - 1)
    found: NDArray[np.int64] = np.where(away < exact, away, far) + half * (distance > 0)
    return found


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
