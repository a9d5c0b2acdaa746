"""ELECTRA (Clark et al., 2020): BERT whose word vectors may be narrower than its layers, and are projected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.families.bert import BertConfig, read_config
from models.families.family import refused
from models.families.relatives import relative


def read(config: Mapping[str, Any]) -> BertConfig:
    """Raises CheckpointError."""
    width = config.get("embedding_size", 128)
    if not isinstance(width, int) or width <= 0:
        raise refused(f"embedding_size is {width!r}, not a positive number")
    return read_config(config, embedding_size=width)


FAMILY = relative(read, "electra.")
