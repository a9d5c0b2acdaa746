"""ModernBERT (Warner et al., 2024): rotary positions, gated linear units, normalisation before each part, and layers of
which only some see the whole row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.families.attention import Attention
from models.families.family import Family, refuse_foreign_code, refused, validated
from models.families.layers import Layers
from models.families.rotary import Rotary, Turning, read_rotary
from models.graph import Graph
from models.weights import Weights

_WORDS = "embeddings.tok_embeddings.weight"
_GLOBAL, _LOCAL = "full_attention", "sliding_attention"
_THETAS = {_GLOBAL: 160_000.0, _LOCAL: 10_000.0}
_OLDER_THETAS = {_GLOBAL: "global_rope_theta", _LOCAL: "local_rope_theta"}


class _Config(BaseModel):
    """The part of config.json that shapes the graph, with the defaults of transformers' ModernBertConfig."""

    model_config = ConfigDict(frozen=True)

    vocab_size: int = 50368
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = Field(12, gt=0)
    hidden_activation: str = "gelu"
    max_position_embeddings: int = 8192
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    layer_types: tuple[str, ...] | None = None
    global_attn_every_n_layers: int = Field(3, gt=0)
    local_attention: int = 128


def _encode(graph: Graph, config: Mapping[str, Any], weights: Weights) -> str:
    return _ModernBert(graph, config, weights.below(_WORDS, "model.")).encode()


FAMILY = Family(_encode)


class _ModernBert:
    """Values are (rows, length, hidden) unless they say otherwise."""

    def __init__(self, graph: Graph, raw_config: Mapping[str, Any], weights: Weights) -> None:
        refuse_foreign_code(raw_config)
        if raw_config.get("sliding_window") is not None:
            raise refused("sliding_window is not supported, local_attention is")
        self._graph = graph
        self._config = config = validated(_Config, raw_config)
        self._kinds = _kinds(config)
        self._rotaries = {kind: _rotary(raw_config, kind) for kind in sorted(set(self._kinds))}
        if config.hidden_size % (2 * config.num_attention_heads):
            raise refused(f"hidden_size {config.hidden_size} is no even multiple of {config.num_attention_heads} heads")
        self._layers = Layers(graph, weights, config.norm_eps)

    def encode(self) -> str:
        config, layers = self._config, self._layers
        ids, mask = self._graph.input("input_ids"), self._graph.input("attention_mask")
        attention = Attention(self._graph, mask, config.num_attention_heads, config.hidden_size)
        turnings = {kind: self._turning(kind, rotary) for kind, rotary in self._rotaries.items()}
        hidden = self._norm(layers.embed(ids, _WORDS, config.vocab_size, config.hidden_size), "embeddings.norm")
        for number, kind in enumerate(self._kinds):
            name = f"layers.{number}."
            read = self._norm(hidden, f"{name}attn_norm") if number else hidden
            hidden = self._graph.op("Add", hidden, self._attended(read, name, attention, turnings[kind], kind))
            hidden = self._graph.op("Add", hidden, self._gated(self._norm(hidden, f"{name}mlp_norm"), name))
        return self._norm(hidden, "final_norm")

    def _attended(self, value: str, name: str, attention: Attention, turning: Turning, kind: str) -> str:
        size, bias = self._config.hidden_size, self._config.attention_bias
        packed = self._layers.linear(value, f"{name}attn.Wqkv", size, 3 * size, bias=bias)
        query, key, values = self._graph.split(packed, [size] * 3)
        query, key = turning.turn(query), turning.turn(key)
        if kind == _GLOBAL:
            seen = attention.everywhere(query, key, values)
        else:
            seen = attention.near(query, key, values, self._config.local_attention // 2)
        return self._layers.linear(seen, f"{name}attn.Wo", size, size, bias=bias)

    def _gated(self, value: str, name: str) -> str:
        config = self._config
        size, wide, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        both = self._layers.linear(value, f"{name}mlp.Wi", size, 2 * wide, bias=bias)
        activated, gate = self._graph.split(both, [wide] * 2)
        product = self._graph.op("Mul", self._layers.activated(activated, config.hidden_activation), gate)
        return self._layers.linear(product, f"{name}mlp.Wo", wide, size, bias=bias)

    def _norm(self, value: str, name: str) -> str:
        return self._layers.norm(value, name, self._config.hidden_size, bias=self._config.norm_bias)

    def _turning(self, kind: str, rotary: Rotary) -> Turning:
        config = self._config
        heads = config.num_attention_heads
        size = config.hidden_size // heads
        return Turning(self._graph, rotary, config.max_position_embeddings, heads, size, f"rotary.{kind}")


def _kinds(config: _Config) -> tuple[str, ...]:
    """Of each layer. Every n-th sees the whole row, from the first on, where config.json does not list them."""
    every = config.global_attn_every_n_layers
    found = config.layer_types or tuple(_LOCAL if i % every else _GLOBAL for i in range(config.num_hidden_layers))
    if len(found) != config.num_hidden_layers or not set(found) <= {_GLOBAL, _LOCAL}:
        raise refused(f"layer_types {', '.join(found)} is not one of {_GLOBAL}, {_LOCAL} for each layer")
    return found


def _rotary(config: Mapping[str, Any], kind: str) -> Rotary:
    """Newer files have rope_parameters for each kind of layer, older ones a θ; a local θ of null is the global one."""
    table = config.get("rope_parameters") or {}
    if not isinstance(table, Mapping) or not set(table) <= {_GLOBAL, _LOCAL}:
        raise refused(f"rope_parameters = {table!r} is not one table for each kind of layer")
    parameters = table.get(kind)
    theta = config.get(_OLDER_THETAS[kind], _THETAS[kind])
    if theta is None:
        theta = config.get(_OLDER_THETAS[_GLOBAL]) or _THETAS[_GLOBAL]
    return read_rotary({"rope_parameters": parameters, "rope_scaling": config.get("rope_scaling")}, theta)
