"""RoBERTa (Liu et al., 2019), XLM-RoBERTa and CamemBERT: BERT with other tokens, whose positions are counted anew.

The first position is the one behind the padding's id, and tokens that are padding are not counted, even where they
stand in the middle of a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.bert import BertConfig, read_config
from models.families.relatives import relative


def read(config: Mapping[str, Any]) -> BertConfig:
    """Raises CheckpointError."""
    padding = config.get("pad_token_id", 1)
    return read_config(config, padding_id=1 if padding is None else padding)


FAMILY = relative(read, "roberta.")
