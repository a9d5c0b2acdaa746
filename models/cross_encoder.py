"""The folder of a cross-encoder or another classifier → the same `Checkpoint` that encoders of sentences have."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.architecture import architecture_of
from models.checkpoint import Checkpoint, pad_token_id, refuse_unkept
from models.classification import is_classifier, read_classifier
from models.descriptions import read_config, read_json, refused
from models.modules import Pooling, module_list
from service.bundle import TOKENIZER_JSON
from service.errors import BundleError, CheckpointError
from service.tokenizer import Tokenizer

_SAVED = "config_sentence_transformers.json"
_SENTENCE_BERT = "sentence_bert_config.json"
# What sentence_bert_config.json may say without changing what comes out.
_PLAIN: Mapping[str, tuple[Any, ...]] = {
    "transformer_task": (None, "sequence-classification"),
    "module_output_name": (None, "scores"),
    "modality_config": (None, {"text": {"method": "forward", "method_output_name": "logits"}}),
}
_READ = ("max_seq_length", "do_lower_case")
# Model type → types of tokens where config.json does not say; others have none. And the classes of tokenizers that tell
# them, unless tokenizer_config.json says otherwise.
_SEGMENTS = {
    "bert": 2,
    "electra": 2,
    "roberta": 2,
    "xlm-roberta": 2,
    "camembert": 2,
    "nomic_bert": 2,
    "albert": 2,
    "gte": 1,
    "new": 1,
    "deberta": 0,
    "deberta-v2": 0,
}
_TYPED = ("Bert", "Electra", "Albert", "Deberta", "PreTrainedTokenizer")
_SANE_LENGTH = 10_000_000  # transformers writes 1e30 where it knows no limit


def find_cross_encoder(root: Path) -> Checkpoint | None:
    """None where the folder is not one of these. Raises CheckpointError for what is not understood."""
    saved = read_json(root / _SAVED, optional=True)
    folder = _transformer(root, saved)
    if folder is None:
        return None
    config = read_config(folder / "config.json")
    if not is_classifier(config):
        raise refused(
            folder / "config.json", f"architectures {config.get('architectures')} have no classification head"
        )
    if saved.get("default_prompt_name") is not None:
        raise refused(root / _SAVED, "a default prompt of a cross-encoder is not supported")
    sentence = read_json(folder / _SENTENCE_BERT, optional=True)
    _check_sentence_bert(folder / _SENTENCE_BERT, sentence)
    tokenizer_config = read_json(folder / "tokenizer_config.json", optional=True)
    refuse_unkept(config, tokenizer_config)
    return Checkpoint(
        folder=folder,
        config=config,
        pooling=Pooling(()),
        heads=(),
        max_seq_length=_max_seq_length(sentence, tokenizer_config, config),
        lower_case=bool(sentence.get("do_lower_case")),
        pad_token_id=pad_token_id(config),
        prompts={},
        default_prompt_name=None,
        matryoshka_dimensions=(),
        task="score",
        classifier=read_classifier(root, config, saved, has_segments=_has_segments(folder, config, tokenizer_config)),
    )


def _has_segments(folder: Path, config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> bool:
    """As transformers decides what a model is told. Raises CheckpointError for types that are not 0 and then 1."""
    if not _wants_types(config, tokenizer_config):
        return False
    path = folder / TOKENIZER_JSON
    if not path.is_file():  # which is refused later
        return False
    try:
        return Tokenizer(path).pair.has_types
    except BundleError as error:
        raise CheckpointError(f"{path}: {error.message}", "fetch the checkpoint again") from error


def _wants_types(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> bool:
    model_type = str(config.get("model_type"))
    if model_type not in _SEGMENTS or (config.get("type_vocab_size", _SEGMENTS[model_type]) or 0) < 2:
        return False
    names = tokenizer_config.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    kind = tokenizer_config.get("tokenizer_class")
    return str(kind).startswith(_TYPED) if kind is not None else model_type in ("bert", "electra")


def _transformer(root: Path, saved: Mapping[str, Any]) -> Path | None:
    """The folder of config.json."""
    path = root / "modules.json"
    is_cross_encoder = saved.get("model_type") == "CrossEncoder"
    if not path.is_file():
        is_one = is_cross_encoder or is_classifier(read_config(root / "config.json", optional=True))
        return root if is_one and (root / "config.json").is_file() else None
    modules = module_list(path)
    if not is_cross_encoder:
        return None
    kinds = [kind for kind, _ in modules]
    if kinds != ["Transformer"]:
        raise refused(path, f"the modules of the cross-encoder are {', '.join(kinds)}; Transformer alone is understood")
    return modules[0][1]


def _check_sentence_bert(path: Path, sentence: Mapping[str, Any]) -> None:
    for name, value in sentence.items():
        allowed = _PLAIN.get(name, (None, False, "", [], {}))
        if name not in _READ and value not in allowed:
            raise refused(path, f"{name} = {value!r} is not understood in a cross-encoder")


def _max_seq_length(sentence: Mapping[str, Any], tokenizer_config: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """As CrossEncoder: the tokenizer's limit, which sentence_bert_config.json's replaces; the positions bound both."""
    positions = architecture_of(config).positions
    stated = sentence.get("max_seq_length") or tokenizer_config.get("model_max_length")
    limits = [positions, int(stated) if isinstance(stated, int | float) and 0 < stated < _SANE_LENGTH else None]
    known = [limit for limit in limits if limit is not None]
    if not known:
        raise refused("tokenizer_config.json", "neither it nor config.json says how much the model reads")
    return min(known)
