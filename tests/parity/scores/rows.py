"""The cross-encoders that are compared: one `Row` is one tiny checkpoint of random weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.parity.families.rows import TokenizerKind


@dataclass(frozen=True)
class Row:
    """`form` is where the folder says what it is: modules.json (version 6), config.json's newer key (4 and 5) or its
    older one (up to 3). `separators` stand between the texts of a pair."""

    name: str
    config: Mapping[str, Any]
    activation: str = ""  # of torch.nn; empty: as CrossEncoder chooses it
    form: Literal["modules", "config", "oldest"] = "modules"
    separators: int = 1
    segments: bool = False
    tokenizer: TokenizerKind = "wordpiece"
    max_length: int | None = None


_SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 64,
    "num_labels": 1,
}
_ROBERTA = {**_SIZES, "type_vocab_size": 1}
_APART: Any = {"separators": 2, "max_length": 62}  # positions begin behind the padding's id
_BERT = {"model_type": "bert", **_SIZES}
_DISTILBERT = {"dim": 64, "n_layers": 3, "n_heads": 4, "hidden_dim": 96, "max_position_embeddings": 64, "num_labels": 1}

_MODERNBERT = {**_SIZES, "model_type": "modernbert", "num_hidden_layers": 4, "local_attention": 16}
_BIASED = {"classifier_pooling": "mean", "classifier_bias": True, "norm_bias": True, "classifier_activation": "silu"}

ROWS = (
    Row("bert", _BERT, segments=True, max_length=48),
    Row("bert-identity", _BERT, "Identity", "config", segments=True),
    Row("bert-oldest", _BERT, "Identity", "oldest"),
    Row("bert-labels", {**_BERT, "num_labels": 3}, form="config", segments=True),
    Row("roberta", {**_ROBERTA, "model_type": "roberta"}, tokenizer="bpe", **_APART),
    Row("xlm-roberta", {**_ROBERTA, "model_type": "xlm-roberta"}, **_APART),
    Row("camembert", {**_ROBERTA, "model_type": "camembert"}, tokenizer="bpe", **_APART),
    Row("distilbert", {**_DISTILBERT, "model_type": "distilbert"}, form="config"),
    Row("electra", {**_SIZES, "model_type": "electra", "embedding_size": 32}, segments=True),
    Row("modernbert", {**_MODERNBERT, "classifier_pooling": "cls"}, tokenizer="bpe"),
    Row("modernbert-mean", {**_MODERNBERT, **_BIASED}, form="config", tokenizer="bpe"),
    Row("nomic-bert", {**_SIZES, "model_type": "nomic_bert", "type_vocab_size": 2}, segments=True),
    Row("gte", {**_SIZES, "model_type": "gte", "type_vocab_size": 2}, segments=True),
    Row("mpnet", {**_SIZES, "model_type": "mpnet"}, **_APART),
)

PAIRS = (
    ("Where is the cat?", "A cat sat on the mat."),
    ("Where is the cat?", "The dog barked all night."),
    ("river", ""),
    ("Who grinds the corn?", "the river runs past the mill and the mill grinds the corn " * 12),
    ("the mill grinds the corn and the corn feeds the town " * 12, "Where is the town?"),
    ("the corn feeds the town " * 20, "the town grinds the corn " * 20),
    ("Größere Übungen für müde Füße?", "Семантический поиск находит документы по смыслу."),
)
"""Two short ones, an empty text, and three that are too long by the second, the first, or both."""

TEXTS = ("A cat sat on the mat.", "", "the river runs past the mill and the mill grinds the corn " * 12)
