"""NomicBERT (Nussbaum et al., 2024): no biases in its matrices, SwiGLU.

Its own code, before transformers had the architecture, has other names in config.json and in the weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.family import Family, expect, refused, validated
from models.families.gated import MARKER, GatedBert, GatedConfig
from models.families.rotary import Rotary, read_rotary
from models.graph import Graph
from models.weights import Weights

_THETA = 1000.0
_OLDER_ACTIVATIONS = {"swiglu": "silu", "geglu": "gelu"}
_OLDER = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "max_position_embeddings": "n_positions",
    "layer_norm_eps": "layer_norm_epsilon",
    "hidden_act": "activation_function",
}
_OLDER_TENSORS = (
    ("embeddings.LayerNorm", "emb_ln"),
    ("layers.", "encoder.layers."),
    ("self_attn.qkv_proj", "attn.Wqkv"),
    ("self_attn.o_proj", "attn.out_proj"),
    ("mlp.up_proj", "mlp.fc11"),
    ("mlp.gate_proj", "mlp.fc12"),
    ("mlp.down_proj", "mlp.fc2"),
    ("post_attention_layernorm", "norm1"),
    ("post_mlp_layernorm", "norm2"),
)
_EXPECTED: Mapping[str, tuple[Any, ...]] = {
    "causal": (False,),
    "prenorm": (False,),
    "parallel_block": (False,),
    "use_rms_norm": (False, None),
    "qkv_proj_bias": (False,),
    "mlp_fc1_bias": (False,),
    "mlp_fc2_bias": (False,),
    "rotary_emb_fraction": (1,),
    "rotary_emb_interleaved": (False,),
    "rotary_emb_scale_base": (None,),
    "rotary_scaling_factor": (None,),
    "num_experts": (0, None),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
}
"""Where config.json has one of these, it must have one of these values."""


_DEFAULTS = {"type_vocab_size": 2, "hidden_act": "silu", "layer_norm_eps": 1e-12}


def _encode(graph: Graph, config: Mapping[str, Any], weights: Weights) -> str:
    newer = weights.below(MARKER, "nomic_bert.", "bert.")
    older = newer.renamed(_OLDER_TENSORS)
    return GatedBert(graph, read(config), older if older.has("embeddings.LayerNorm.weight") else newer).encode()


def read(config: Mapping[str, Any]) -> GatedConfig:
    """Raises CheckpointError for what the graph would get wrong."""
    expect(config, _EXPECTED)
    biases = {"attention_bias": False, "down_bias": False}
    if "n_embd" in config:
        activation = _activation(config.get("activation_function"))
        rotary = Rotary(float(config.get("rotary_emb_base", _THETA)))
        described = {**_DEFAULTS, **config, **biases, "activation_function": activation, "rotary": rotary}
        return validated(GatedConfig, described, _OLDER)
    _refuse_other_heads(config)
    return validated(GatedConfig, {**_DEFAULTS, **config, **biases, "rotary": read_rotary(config, _THETA)})


def _activation(name: Any) -> str:
    """The older name is that of the whole gated unit; those without a gate are other architectures."""
    if name not in _OLDER_ACTIVATIONS:
        raise refused(f"activation_function {name} is not supported ({', '.join(_OLDER_ACTIVATIONS)} are)")
    return _OLDER_ACTIVATIONS[name]


def _refuse_other_heads(config: Mapping[str, Any]) -> None:
    size, heads = config.get("head_dim"), config.get("num_attention_heads")
    if size is not None and heads is not None and size * heads != config.get("hidden_size"):
        raise refused(f"head_dim {size} is not hidden_size by the number of heads")


FAMILY = Family(_encode, knows_its_code=True)
