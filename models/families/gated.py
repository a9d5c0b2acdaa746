"""BERT with rotary positions and gated linear units: what NomicBERT and GTE have in common, by transformers' names."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from models.families.attention import Attention
from models.families.family import refused
from models.families.layers import Layers
from models.families.rotary import Rotary, Turning
from models.graph import Graph
from models.weights import Weights

MARKER = "embeddings.word_embeddings.weight"


class GatedConfig(BaseModel):
    """What shapes the graph; the last three are the family's own business."""

    model_config = ConfigDict(frozen=True)

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int = Field(gt=0)
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int  # 0: no segments
    hidden_act: str
    layer_norm_eps: float

    rotary: Rotary
    attention_bias: bool  # of queries, keys, values and what is made of them
    down_bias: bool  # of the last matrix of each layer


class GatedBert:
    """Values are (rows, length, hidden) unless they say otherwise."""

    def __init__(self, graph: Graph, config: GatedConfig, weights: Weights) -> None:
        """Raises CheckpointError where the heads do not divide the width."""
        if config.hidden_size % (2 * config.num_attention_heads):
            raise refused(f"hidden_size {config.hidden_size} is no even multiple of {config.num_attention_heads} heads")
        self._graph = graph
        self._config = config
        self._weights = weights
        self._layers = Layers(graph, weights, config.layer_norm_eps)

    def encode(self) -> str:
        """Appends all of it; the last hidden state. Raises CheckpointError for a tensor that does not fit."""
        config = self._config
        heads, size = config.num_attention_heads, config.hidden_size
        ids, mask = self._graph.input("input_ids"), self._graph.input("attention_mask")
        attention = Attention(self._graph, mask, heads, size)
        turning = Turning(self._graph, config.rotary, config.max_position_embeddings, heads, size // heads, "rotary")
        hidden = self._norm(self._embedded(ids), "embeddings.LayerNorm")
        for number in range(config.num_hidden_layers):
            name = f"layers.{number}."
            attended = self._graph.op("Add", hidden, self._attended(hidden, name, attention, turning))
            hidden = self._norm(attended, f"{name}post_attention_layernorm")
            gated = self._graph.op("Add", hidden, self._gated(hidden, name))
            hidden = self._norm(gated, f"{name}post_mlp_layernorm")
        return hidden

    def _embedded(self, ids: str) -> str:
        """Words and segments; of the latter the first one, unless the graph has token_type_ids."""
        config, graph = self._config, self._graph
        words = self._layers.embed(ids, MARKER, config.vocab_size, config.hidden_size)
        if not config.type_vocab_size:
            return words
        shape = config.type_vocab_size, config.hidden_size
        table = self._weights.get("embeddings.token_type_embeddings.weight", *shape)
        if "token_type_ids" not in graph.inputs:
            return graph.op("Add", words, graph.constant(table[0], "embeddings.segment"))
        return graph.op(
            "Add", words, graph.op("Gather", graph.constant(table, "embeddings.segments"), "token_type_ids")
        )

    def _attended(self, value: str, name: str, attention: Attention, turning: Turning) -> str:
        size, bias = self._config.hidden_size, self._config.attention_bias
        parts = [(f"{name}self_attn.{part}_proj", size) for part in "qkv"]
        packed = self._together(value, f"{name}self_attn.qkv_proj", parts, bias=bias)
        query, key, values = self._graph.split(packed, [size] * 3)
        seen = attention.everywhere(turning.turn(query), turning.turn(key), values)
        return self._layers.linear(seen, f"{name}self_attn.o_proj", size, size, bias=bias)

    def _gated(self, value: str, name: str) -> str:
        size, wide = self._config.hidden_size, self._config.intermediate_size
        parts = [(f"{name}mlp.{part}_proj", wide) for part in ("up", "gate")]
        both = self._together(value, f"{name}mlp.up_gate_proj", parts, bias=False)
        up, gate = self._graph.split(both, [wide] * 2)
        product = self._graph.op("Mul", self._layers.activated(gate, self._config.hidden_act), up)
        return self._layers.linear(product, f"{name}mlp.down_proj", wide, size, bias=self._config.down_bias)

    def _together(self, value: str, packed: str, parts: list[tuple[str, int]], *, bias: bool) -> str:
        """Matrices that read the same value, which older checkpoints keep in one tensor."""
        size = self._config.hidden_size
        if self._weights.has(f"{packed}.weight"):
            return self._layers.linear(value, packed, size, sum(outer for _, outer in parts), bias=bias)
        return self._layers.product(value, parts, size, bias=bias)

    def _norm(self, value: str, name: str) -> str:
        return self._layers.norm(value, name, self._config.hidden_size)
