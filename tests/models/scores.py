"""Tiny cross-encoders and classifiers, and their logits in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from models.weights import Array
from service.tokenizer import Tokenizer
from tests.models import reference, tiny
from tests.models.reference import Wide
from tests.models.tiny import HIDDEN, Tiny, change_json, write_json

LENGTH = 24
IDENTITY = {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.1.0"}}


def write_cross_encoder(folder: Path, labels: int = 1, **config: Any) -> Path:
    """BertForSequenceClassification of pairs, as transformers saves it; returns `folder`."""
    Tiny().write(folder)
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (folder / name).unlink()
    names = {str(i): f"LABEL_{i}" for i in range(labels)}
    change_json(folder / "config.json", architectures=["BertForSequenceClassification"], id2label=names, **config)
    write_json(folder / "tokenizer_config.json", {"model_max_length": LENGTH})
    change_json(folder / "tokenizer.json", post_processor=_template())
    encoder = {f"bert.{name}": value for name, value in tiny.weights().items()}
    save_file(encoder | head_weights(labels), folder / "model.safetensors")
    return folder


def head_weights(labels: int) -> dict[str, Array]:
    rng = np.random.default_rng(11)
    shapes: dict[str, tuple[int, ...]] = {
        "bert.pooler.dense.weight": (HIDDEN, HIDDEN),
        "bert.pooler.dense.bias": (HIDDEN,),
        "classifier.weight": (labels, HIDDEN),
        "classifier.bias": (labels,),
    }
    return {name: rng.normal(0, 0.4, shape).astype(np.float32) for name, shape in shapes.items()}


def expected_logits(folder: Path, first: str, second: str | None = None, *, labels: int = 1) -> Wide:
    """(labels,) of a text or a pair that fits; `folder` has the tokenizer.json."""
    ids = tiny.VOCABULARY
    tokenizer = Tokenizer(folder / "tokenizer.json")
    texts = [first] if second is None else [first, second]
    parts = [list(one.ids) for one in tokenizer.encode(texts, [""] * len(texts), LENGTH)]
    row = [ids["[CLS]"], *parts[0], ids["[SEP]"]]
    types = [0] * len(row)
    if second is not None:
        row += [*parts[1], ids["[SEP]"]]
        types += [1] * (len(parts[1]) + 1)
    assert len(row) <= LENGTH
    hidden = reference.hidden_states(row, tiny.weights(), tiny.config(), types=types)
    head = {name: value.astype(np.float64) for name, value in head_weights(labels).items()}
    pooled = np.tanh(head["bert.pooler.dense.weight"] @ hidden[0] + head["bert.pooler.dense.bias"])
    return np.asarray(head["classifier.weight"] @ pooled + head["classifier.bias"])


def _template() -> dict[str, Any]:
    (cls, sep), (behind, _) = (
        [{"SpecialToken": {"id": token, "type_id": kind}} for token in tokens]
        for kind, tokens in ((0, ("[CLS]", "[SEP]")), (1, ("[SEP]", "[CLS]")))
    )
    first, second = ({"Sequence": {"id": name, "type_id": kind}} for kind, name in enumerate("AB"))
    known = {t: {"id": t, "ids": [tiny.VOCABULARY[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    return {
        "type": "TemplateProcessing",
        "single": [cls, first, sep],
        "pair": [cls, first, sep, second, behind],
        "special_tokens": known,
    }
