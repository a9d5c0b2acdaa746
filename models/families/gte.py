"""GTE (Zhang et al., 2024), whose first code called itself "new": biases in attention, GeGLU, NTK scaling for some."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.family import Family, expect, validated
from models.families.gated import MARKER, GatedBert, GatedConfig
from models.families.rotary import read_rotary
from models.graph import Graph
from models.weights import Weights

_THETAS = {"gte": 160_000.0, "new": 10_000.0}  # where config.json has none
_OLDER_TENSORS = (
    ("layers.", "encoder.layer."),
    ("self_attn.qkv_proj", "attention.qkv_proj"),
    ("self_attn.q_proj", "attention.q_proj"),
    ("self_attn.k_proj", "attention.k_proj"),
    ("self_attn.v_proj", "attention.v_proj"),
    ("self_attn.o_proj", "attention.o_proj"),
    ("post_attention_layernorm", "attn_ln"),
    ("post_mlp_layernorm", "mlp_ln"),
)
_EXPECTED: Mapping[str, tuple[Any, ...]] = {
    "position_embedding_type": ("rope",),
    "layer_norm_type": ("layer_norm",),
    "logn_attention_scale": (False,),
}
"""Where config.json has one of these, it must have one of these values."""


_DEFAULTS = {"type_vocab_size": 1, "hidden_act": "gelu", "layer_norm_eps": 1e-12}


def _encode(graph: Graph, config: Mapping[str, Any], weights: Weights) -> str:
    newer = weights.below(MARKER, "gte.", "new.")
    older = newer.renamed(_OLDER_TENSORS)
    is_older = older.has("layers.0.post_attention_layernorm.weight")
    return GatedBert(graph, read(config), older if is_older else newer).encode()


def read(config: Mapping[str, Any]) -> GatedConfig:
    """Raises CheckpointError for what the graph would get wrong."""
    expect(config, _EXPECTED)
    rotary = read_rotary(config, _THETAS[str(config["model_type"])])
    own = {"rotary": rotary, "attention_bias": True, "down_bias": True}
    return validated(GatedConfig, {**_DEFAULTS, **config, **own})


FAMILY = Family(_encode, knows_its_code=True)
