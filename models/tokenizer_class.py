"""What a tokenizer's class makes of tokenizer.json: transformers builds some of its parts from settings beside it.

BertTokenizer and its relatives make their normaliser anew (`do_lower_case`, true unless it is said otherwise,
`strip_accents`, `tokenize_chinese_chars`), RobertaTokenizer and its relatives their pre-tokeniser
(`add_prefix_space`), whatever the file says. So it is in transformers 4 and 5; where a file holds parts of another
kind, which version 5 replaces and version 4 keeps, it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.descriptions import read_json, refused
from service.bundle import TOKENIZER_JSON

_OF_MODEL = {
    **dict.fromkeys(("bert", "distilbert", "electra", "nomic_bert", "convbert", "ernie", "nezha"), "BertTokenizer"),
    **dict.fromkeys(("megatron-bert", "mobilebert", "squeezebert"), "BertTokenizer"),
    "mpnet": "MPNetTokenizer",
    **dict.fromkeys(("roberta", "longformer"), "RobertaTokenizer"),
    **dict.fromkeys(("xlm-roberta", "gte"), "XLMRobertaTokenizer"),
    "camembert": "CamembertTokenizer",
}
"""model_type → the class where nothing names one."""

_FILE_AS_IT_IS = frozenset({"modernbert"})  # model types of which transformers 5 disregards the class that is named

_BERTS = frozenset(
    f"{name}Tokenizer"
    for name in (
        *("Bert", "DistilBert", "Electra", "MPNet", "ConvBert", "MobileBert", "SqueezeBert", "Funnel"),
        *("Lxmert", "LayoutLM", "RetriBert"),
    )
)
_ROBERTAS = frozenset(f"{name}Tokenizer" for name in ("Roberta", "Longformer", "Bart", "LED", "GPT2", "Deberta"))
_ENDED = frozenset(f"{name}Tokenizer" for name in ("Roberta", "Longformer", "Bart", "LED"))  # by tokens of their own
_SENTENCEPIECES = frozenset({"XLMRobertaTokenizer", "CamembertTokenizer"})

_AROUND = ("BertProcessing", "RobertaProcessing", "Sequence", "TemplateProcessing")  # what puts tokens around a text

_REMEDY = (
    "save the tokenizer again with transformers: AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER), or "
    'name "tokenizer_class": "PreTrainedTokenizerFast" in tokenizer_config.json to have the file as it is'
)


def as_its_class_has_it(content: Mapping[str, Any], folder: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json with the parts that the class makes by itself. `config`: the encoder's.

    Raises CheckpointError where versions of transformers would make different tokens.
    """
    settings = read_json(folder / "tokenizer_config.json", optional=True)
    name, model = _class(settings, config), (content.get("model") or {}).get("type")
    source = folder / TOKENIZER_JSON
    if name in _BERTS and model == "WordPiece":
        return {**content, **_bert(content, settings, name, source)}
    if name in _ROBERTAS and model == "BPE":
        return {**content, **_roberta(content, settings, name, source)}
    if name in _SENTENCEPIECES and model == "Unigram":
        _require(content, "pre_tokenizer", ("Metaspace", "Sequence"), name, source)
        _require(content, "post_processor", _AROUND, name, source)
        _refuse_other_prefixes(content, settings, name, source)
    return dict(content)


def _class(settings: Mapping[str, Any], config: Mapping[str, Any]) -> str | None:
    """Without the Fast at its end."""
    model_type = str(config.get("model_type"))
    if model_type in _FILE_AS_IT_IS:
        return None
    named = settings.get("tokenizer_class") or config.get("tokenizer_class")
    return str(named).removesuffix("Fast") if named else _OF_MODEL.get(model_type)


def _bert(content: Mapping[str, Any], settings: Mapping[str, Any], name: str, source: Path) -> dict[str, Any]:
    _require(content, "normalizer", (None, "BertNormalizer"), name, source)
    _require(content, "pre_tokenizer", ("BertPreTokenizer",), name, source)
    _require(content, "post_processor", _AROUND, name, source)
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": bool(settings.get("tokenize_chinese_chars", True)),
        "strip_accents": settings.get("strip_accents"),
        "lowercase": bool(settings.get("do_lower_case", True)),
    }
    return {"normalizer": normalizer}


def _roberta(content: Mapping[str, Any], settings: Mapping[str, Any], name: str, source: Path) -> dict[str, Any]:
    _require(content, "normalizer", (None,), name, source)
    _require(content, "pre_tokenizer", ("ByteLevel",), name, source)
    if name in _ENDED:
        _require(content, "post_processor", _AROUND, name, source)
    prefixed = bool(settings.get("add_prefix_space", False))
    return {"pre_tokenizer": {**content["pre_tokenizer"], "add_prefix_space": prefixed}}


def _refuse_other_prefixes(content: Mapping[str, Any], settings: Mapping[str, Any], name: str, source: Path) -> None:
    wanted = bool(settings.get("add_prefix_space", True))
    outer = content.get("pre_tokenizer") or {}
    for part in outer.get("pretokenizers") or [outer]:
        scheme = part.get("prepend_scheme", "always" if part.get("add_prefix_space", True) else "never")
        if part.get("type") == "Metaspace" and (scheme != "never") != wanted:
            raise refused(
                source,
                f"its Metaspace has prepend_scheme {scheme}, tokenizer_config.json's {name} add_prefix_space {wanted}",
                _REMEDY,
            )


def _require(content: Mapping[str, Any], part: str, kinds: tuple[str | None, ...], name: str, source: Path) -> None:
    found = content.get(part)
    kind = found.get("type") if isinstance(found, dict) else None
    if kind not in kinds:
        raise refused(source, f"its {part} is {kind}, transformers' {name} makes {kinds[-1]} of it", _REMEDY)
