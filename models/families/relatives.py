"""BERT's relatives: the same layers, described by other names in config.json and in the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from models.families.bert import MARKER, Bert, BertConfig
from models.families.bert_int8 import Int8Bert
from models.families.family import Family, refuse_foreign_code
from models.graph import Graph
from models.weights import Array, Weights

Read = Callable[[Mapping[str, Any]], BertConfig]
"""config.json → what BERT would call it. Raises CheckpointError for what the graph would get wrong."""


def relative(read: Read, prefix: str, names: Sequence[tuple[str, str]] = (), *, int8: bool = True) -> Family:
    """A family of BERT's layers. `names` turn BERT's names of tensors into its own, one after another; `prefix` is
    what task models put before them."""

    def encode(graph: Graph, config: Mapping[str, Any], weights: Weights) -> str:
        return Bert(graph, understood(config), own(weights)).encode()

    def encode_int8(graph: Graph, config: Mapping[str, Any], weights: Weights, peaks: Mapping[str, Array]) -> str:
        return Int8Bert(graph, understood(config), own(weights), peaks).encode()

    def understood(config: Mapping[str, Any]) -> BertConfig:
        refuse_foreign_code(config)
        return read(config)

    def own(weights: Weights) -> Weights:
        return weights.below(MARKER, prefix).renamed(names)

    return Family(encode, encode_int8 if int8 else None)
