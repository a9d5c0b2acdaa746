"""MPNet (Song et al., 2020): RoBERTa's positions without segments, and a bias of attention by relative distance.

The bias is one table for all layers, of buckets as in T5: half of them for either direction, exact for near tokens and
logarithmic for far ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.bert import BertConfig, read_config
from models.families.family import refused
from models.families.relatives import relative

_BUCKETS = 32  # fixed in transformers, whatever config.json says of the table's size
_PADDING = 1  # likewise
_TENSORS = (
    (".attention.self.query", ".attention.attn.q"),
    (".attention.self.key", ".attention.attn.k"),
    (".attention.self.value", ".attention.attn.v"),
    (".attention.output.dense", ".attention.attn.o"),
    (".attention.output.LayerNorm", ".attention.LayerNorm"),
)


def read(config: Mapping[str, Any]) -> BertConfig:
    """Raises CheckpointError."""
    buckets = config.get("relative_attention_num_buckets", _BUCKETS)
    if buckets != _BUCKETS:
        raise refused(f"relative_attention_num_buckets {buckets} is not supported ({_BUCKETS} is)")
    return read_config(config, type_vocab_size=0, padding_id=_PADDING, relative_buckets=_BUCKETS)


FAMILY = relative(read, "mpnet.", _TENSORS, int8=False)
