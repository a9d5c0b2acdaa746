"""What the matrix tries: one `Row` is one tiny checkpoint of random weights.

To add one: append a `Row` to ROWS and run `make matrix`. `config` is what transformers' configuration class of its
`model_type` takes, and only needs what makes the model tiny; keep it below a million parameters. What a row needs
beyond its fields (another module, another class to save the weights with) becomes one more field with a default, which
`make_checkpoints.py` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from models.recipe import Route

TokenizerKind = Literal["wordpiece", "bpe", "unigram"]


@dataclass(frozen=True)
class Row:
    """One checkpoint: an encoder of transformers, its tokenizer, and the modules of sentence-transformers after it."""

    name: str  # of its folder, unlike all others
    family: str  # as people call it
    config: Mapping[str, Any]  # with `model_type`; vocab_size and the special tokens' ids come from the tokenizer
    route: Route = "native"
    pooling: str | tuple[str, ...] = "mean"  # several: concatenated
    tokenizer: TokenizerKind = "wordpiece"
    normalize: bool = True
    max_seq_length: int | None = None  # None: max_position_embeddings, which RoBERTa's relatives cannot read
    model_class: str = "AutoModel"  # of transformers, whose weights are saved
    note: str = ""  # what is special about it, for the table
    settings: Mapping[str, Any] = field(default_factory=dict)  # arguments of SentenceTransformer


_LAYERS = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 96}
_BERT = {"model_type": "bert", **_LAYERS, "max_position_embeddings": 48}
_ROBERTA = {"model_type": "roberta", **_LAYERS, "max_position_embeddings": 50, "type_vocab_size": 1}
_DISTILBERT = {"model_type": "distilbert", "n_layers": 3, "n_heads": 4, "dim": 64, "hidden_dim": 96}
_ELECTRA = {"model_type": "electra", **_LAYERS, "max_position_embeddings": 48, "embedding_size": 64}
_MPNET = {"model_type": "mpnet", **_LAYERS, "max_position_embeddings": 300}
_MODERNBERT = {
    "model_type": "modernbert",
    **_LAYERS,
    "num_hidden_layers": 4,
    "max_position_embeddings": 256,
    "local_attention": 16,
}
_NOMIC = {"model_type": "nomic_bert", **_LAYERS, "max_position_embeddings": 256}
_GTE = {"model_type": "gte", **_LAYERS, "max_position_embeddings": 256}

_DEBERTA = {
    **_BERT,
    "model_type": "deberta-v2",
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}

_DECODER = {**_BERT, "num_key_value_heads": 2, "head_dim": 16}

ROWS: tuple[Row, ...] = (
    Row("bert", "BERT", _BERT),
    Row("bert-tanh-gelu", "BERT", {**_BERT, "hidden_act": "gelu_new"}, pooling="cls", note="`gelu_new`"),
    Row("roberta", "RoBERTa", _ROBERTA, tokenizer="bpe", max_seq_length=48),
    Row(
        "xlm-roberta",
        "XLM-RoBERTa",
        {**_ROBERTA, "model_type": "xlm-roberta"},
        tokenizer="unigram",
        pooling="cls",
        max_seq_length=48,
    ),
    Row("camembert", "CamemBERT", {**_ROBERTA, "model_type": "camembert"}, tokenizer="unigram", max_seq_length=48),
    Row("distilbert", "DistilBERT", {**_DISTILBERT, "max_position_embeddings": 48}),
    Row("electra", "ELECTRA", _ELECTRA, pooling="cls"),
    Row("electra-narrow", "ELECTRA", {**_ELECTRA, "embedding_size": 24}, note="narrow word vectors, projected"),
    Row("mpnet", "MPNet", _MPNET, max_seq_length=298),
    Row("modernbert", "ModernBERT", _MODERNBERT, tokenizer="bpe", note="each third layer sees the whole row"),
    Row(
        "modernbert-biased",
        "ModernBERT",
        {**_MODERNBERT, "attention_bias": True, "mlp_bias": True, "norm_bias": True, "hidden_activation": "silu"},
        tokenizer="bpe",
        pooling="cls",
        note="biases, `silu`",
    ),
    Row("nomic-bert", "NomicBERT", _NOMIC),
    Row("gte", "GTE", _GTE, tokenizer="unigram", pooling="cls"),
    Row("gte-no-segments", "GTE", {**_GTE, "type_vocab_size": 0}, tokenizer="unigram", note="no segments"),
    Row(
        "albert",
        "ALBERT",
        {**_BERT, "model_type": "albert", "embedding_size": 16},
        route="export",
        tokenizer="unigram",
        note="one layer's weights for all",
    ),
    Row("deberta", "DeBERTa", {**_DEBERTA, "model_type": "deberta"}, route="export", tokenizer="bpe"),
    Row(
        "deberta-v3",
        "DeBERTa-v2, -v3",
        {**_DEBERTA, "position_buckets": 16, "norm_rel_ebd": "layer_norm", "share_att_key": True},
        route="export",
        pooling="cls",
        tokenizer="unigram",
        note="buckets of positions",
    ),
    Row(
        "t5",
        "T5, sentence-t5, GTR",
        {
            "model_type": "t5",
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 96,
            "num_layers": 3,
            "num_heads": 4,
            "relative_attention_num_buckets": 8,
            "relative_attention_max_distance": 20,
        },
        route="export",
        tokenizer="unigram",
        max_seq_length=48,
        model_class="T5ForConditionalGeneration",
        note="the encoder of encoder and decoder",
    ),
    Row(
        "qwen3",
        "Qwen3-Embedding",
        {**_DECODER, "model_type": "qwen3"},
        route="export",
        pooling="lasttoken",
        tokenizer="bpe",
        note="causal",
    ),
    Row(
        "mistral",
        "Mistral (E5)",
        {**_DECODER, "model_type": "mistral", "sliding_window": 12},
        route="export",
        pooling="lasttoken",
        tokenizer="bpe",
        note="causal, in a window",
    ),
    Row(
        "gemma3",
        "EmbeddingGemma",
        {
            **_DECODER,
            "model_type": "gemma3_text",
            "use_bidirectional_attention": True,
            "sliding_window": 12,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
        },
        route="export",
        tokenizer="bpe",
        note="both ways, two layers in a window",
    ),
    Row(
        "gpt2",
        "GPT-2 (SGPT)",
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 48},
        route="export",
        pooling="weightedmean",
        tokenizer="bpe",
        note="causal, absolute positions",
    ),
)

TEXTS: tuple[str, ...] = (
    "A cat sat on the mat.",
    "",
    "river",
    "Größere Übungen für müde Füße: Ärger, Öl und Straßenbahn in Köln.",
    "Семантический поиск находит документы по смыслу, а не по отдельным словам.",
    "机器学习模型把一句话变成一个向量,意思相近的句子彼此靠近。",
    "今日は天気がとても良いです。散歩に行きましょう。",
    "مرحبا بالعالم، كيف حالك اليوم؟",
    "שלום עולם, מה שלומך?",
    "नमस्ते दुनिया, आज मौसम अच्छा है।",
    "Ο γρήγορος σκύλος πηδά πάνω από τον τεμπέλη γάτο.",
    "한국어 문장도 벡터가 됩니다.",
    "for (int i = 0; i < n; ++i) { total += weights[i] * values[i]; }  // dot product",
    "SELECT name FROM users WHERE id = 7 ORDER BY name;",
    "😀👩‍💻🇯🇵 emoji, and a café",
    "The treaty was signed in 1648 and ended thirty years of war.",
    "x",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
    "the river runs past the mill and the mill grinds the corn and the corn feeds the town " * 6,
    "word " * 400,
)
"""Several scripts, the empty text, one letter, and two that are longer than the models read."""
