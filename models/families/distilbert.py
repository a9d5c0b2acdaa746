"""DistilBERT (Sanh et al., 2019): BERT without segments, under names of its own.

Positions are in the weights even where config.json says that they are sinusoidal.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.bert import BertConfig, read_config
from models.families.relatives import relative

_CONFIG = {
    "hidden_size": "dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim",
    "hidden_act": "activation",
}
_TENSORS = (
    ("encoder.layer.", "transformer.layer."),
    (".attention.self.query", ".attention.q_lin"),
    (".attention.self.key", ".attention.k_lin"),
    (".attention.self.value", ".attention.v_lin"),
    (".attention.output.dense", ".attention.out_lin"),
    (".attention.output.LayerNorm", ".sa_layer_norm"),
    (".intermediate.dense", ".ffn.lin1"),
    (".output.dense", ".ffn.lin2"),
    (".output.LayerNorm", ".output_layer_norm"),
)


def read(config: Mapping[str, Any]) -> BertConfig:
    """Raises CheckpointError."""
    return read_config(config, _CONFIG, type_vocab_size=0, layer_norm_eps=1e-12)


FAMILY = relative(read, "distilbert.", _TENSORS)
