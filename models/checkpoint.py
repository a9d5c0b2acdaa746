"""What a sentence-transformers folder says of itself, as one value.

Nothing is guessed: what is not understood is refused. The files and their meaning follow sentence-transformers 2 to 6;
those of pooling and what comes after it are read in `modules.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from models.architecture import architecture_of
from models.classification import Classifier
from models.descriptions import Described, parse, read_config, read_json, refuse_unknown, refused
from models.modules import Head, Modules, Normalize, Pooling, Truncate, check_widths, read_modules
from service.bundle import LateInteraction, PoolingMode, Task, is_bundle
from service.errors import CheckpointError

if TYPE_CHECKING:
    from models.splade import Splade

# transformers writes 1e30 into tokenizer_config.json where it knows no limit.
_SANE_LENGTH = 10_000_000

_SAVED = "config_sentence_transformers.json"

SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")

# What older versions call sentence_bert_config.json, in the order in which sentence-transformers looks for them.
_SENTENCE_FILES = tuple(
    f"sentence_{family}_config.json"
    for family in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as far as it is understood. `folder` is the encoder's own, lengths are in tokens."""

    folder: Path
    config: Mapping[str, Any]
    pooling: Pooling
    heads: tuple[Head, ...]
    max_seq_length: int
    lower_case: bool
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    matryoshka_dimensions: tuple[int, ...]
    similarity_fn_name: str | None = None
    task: Task = "embedding"
    splade: Splade | None = None  # where the task is sparse; `pooling` and `heads` mean nothing then
    classifier: Classifier | None = None  # where the task is score; the same
    late: LateInteraction | None = None  # where the task is tokens, whose vectors `heads` are for
    single_tokens: tuple[str, ...] = ()  # texts that are one token wherever they stand

    @property
    def hidden_size(self) -> int:
        """Width of the token vectors."""
        return architecture_of(self.config).hidden_size

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding matrix."""
        return architecture_of(self.config).vocab_size

    @property
    def dimensions(self) -> int:
        """Width of the sentence vectors, or of the tokens'; of sparse ones the vocabulary; of scores the labels."""
        if self.task == "sparse":
            return self.vocab_size
        if self.classifier is not None:
            return len(self.classifier.labels)
        return check_widths(self.pooling, self.heads, self.hidden_size)

    @property
    def mean_of_tokens(self) -> bool:
        """Whether the vector, before normalisation, is the mean of the token vectors."""
        is_mean = self.pooling.modes == ("mean",) and self.pooling.include_prompt
        return self.task == "embedding" and is_mean and all(isinstance(head, Normalize) for head in self.heads)

    @property
    def normalized(self) -> bool:
        """Whether the last step is an L2 normalisation."""
        return bool(self.heads) and isinstance(self.heads[-1], Normalize)


@dataclass(frozen=True)
class Kind:
    """What one kind of model has in the files that all kinds have; anything else there is refused.

    `settings` are keys of sentence_bert_config.json which the reader of that kind looks at by itself.
    """

    model_types: tuple[str, ...] = ("SentenceTransformer",)
    transformer_task: str = "feature-extraction"
    method_output: str = "last_hidden_state"
    settings: frozenset[str] = frozenset()


def read_checkpoint(root: Path, pooling: PoolingMode | None = None) -> Checkpoint:
    """Reads every description in the folder. `pooling` is for folders without modules.json.

    Raises CheckpointError for what is missing, malformed or not understood.
    """
    if is_bundle(root):
        raise CheckpointError(f"{root} is a bundle already", "serve it as it is")
    if not (root / "modules.json").is_file() and not (root / "config.json").is_file():
        raise CheckpointError(
            f"{root} is not a checkpoint: it has neither modules.json nor config.json",
            "pass the folder of a sentence-transformers model",
        )
    return described(root, read_modules(root, pooling), Kind())


def refuse_unkept(config: Mapping[str, Any], tokenizer_config: Mapping[str, Any]) -> None:
    """What transformers would follow, and a bundle does not keep. Raises CheckpointError."""
    if other := config.get("transformers_weights"):
        raise refused("config.json", f"transformers_weights = {other!r}: only model.safetensors or its index is read")
    if (side := tokenizer_config.get("truncation_side")) not in (None, "right"):
        raise refused(
            "tokenizer_config.json",
            f"truncation_side {side} is not kept in a bundle, which is cut on the right",
            "take the line out, and serve with --truncation-side where long texts are truncated",
        )


def described(root: Path, modules: Modules, kind: Kind, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """What the files of every kind of model say: the encoder's own in its folder, the others in `root`.

    `config` stands in for a config.json.
    """
    folder = modules.folder
    config = read_config(folder / "config.json") if config is None else config
    sentence = _sentence(folder, kind)
    tokenizer_config = read_json(folder / "tokenizer_config.json", optional=True)
    refuse_unkept(config, tokenizer_config)
    saved = parse(_SentenceTransformer, root / _SAVED, optional=True)
    if saved.model_type not in (None, *kind.model_types):
        raise refused(_SAVED, f"model_type {saved.model_type} is not {' or '.join(kind.model_types)}")
    prompts, default_prompt_name = _prompts(saved)
    hidden_size = architecture_of(config).hidden_size
    heads = (*modules.heads, *_truncation(saved, check_widths(modules.pooling, modules.heads, hidden_size)))
    width = check_widths(modules.pooling, heads, hidden_size)
    return Checkpoint(
        folder=folder,
        config=config,
        pooling=modules.pooling,
        heads=heads,
        max_seq_length=_max_seq_length(sentence, tokenizer_config, config),
        lower_case=sentence.do_lower_case or False,
        pad_token_id=pad_token_id(config),
        prompts=prompts,
        default_prompt_name=default_prompt_name,
        matryoshka_dimensions=tuple(size for size in _matryoshka(saved, config) if size <= width),
        similarity_fn_name=saved.similarity_fn_name if saved.similarity_fn_name in SIMILARITIES else None,
    )


# ------------------------------------------------------------------------------------- single settings


def _max_seq_length(sentence: _SentenceBert, tokenizer_config: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """As sentence-transformers does: its own file wins over tokenizer_config.json; the positions bound both."""
    limit = tokenizer_config.get("model_max_length")
    stated = sentence.max_seq_length or (
        int(limit) if isinstance(limit, int | float) and 0 < limit < _SANE_LENGTH else None
    )
    found = [length for length in (stated, architecture_of(config).positions) if length is not None]
    if not found:
        raise refused("config.json", "it does not say how many tokens the model reads (max_position_embeddings)")
    return min(found)


def _sentence(folder: Path, kind: Kind) -> _SentenceBert:
    """sentence_bert_config.json, by whichever of its names. Raises CheckpointError."""
    path = next((path for name in _SENTENCE_FILES if (path := folder / name).is_file()), folder / _SENTENCE_FILES[0])
    found = parse(_SentenceBert, path, optional=True)
    if found.transformer_task not in (None, kind.transformer_task):
        raise refused(path, f"transformer_task {found.transformer_task} is not supported")
    if found.module_output_name not in (None, "token_embeddings"):
        raise refused(path, f"module_output_name {found.module_output_name} is not supported")
    for modality, settings in (found.modality_config or {}).items():
        if modality != "text" or settings.get("method_output_name") not in (None, kind.method_output):
            raise refused(path, f"modality {modality} with {settings} is not supported")
    extra = found.model_extra or {}
    refuse_unknown(path, {key: value for key, value in extra.items() if key not in kind.settings})
    return found


def _prompts(saved: _SentenceTransformer) -> tuple[dict[str, str], str | None]:
    """And the default one's name. sentence-transformers writes null for prompts that it merely knows the names of."""
    known = saved.prompts or {}
    default = saved.default_prompt_name
    if default is not None and default not in known:
        raise refused(_SAVED, f"default_prompt_name {default!r} is not among the prompts")
    prompts = {name: text for name, text in known.items() if text is not None}
    return prompts, default if default in prompts else None


def _truncation(saved: _SentenceTransformer, width: int) -> tuple[Truncate, ...]:
    size = saved.truncate_dim
    if size is not None and size <= 0:
        raise refused(_SAVED, f"truncate_dim = {size} is no number of dimensions")
    return () if size is None or size >= width else (Truncate(size),)


def pad_token_id(config: Mapping[str, Any]) -> int:
    """Masked positions may hold any id of the vocabulary: 0 where the model names none."""
    found = config.get("pad_token_id")
    return found if isinstance(found, int) and 0 <= found < architecture_of(config).vocab_size else 0


def _matryoshka(saved: _SentenceTransformer, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes the model was trained to be cut to, where it says so; there is no standard place for it."""
    found = saved.matryoshka_dimensions or config.get("matryoshka_dimensions") or ()
    if not isinstance(found, list | tuple) or not all(isinstance(size, int) and size > 0 for size in found):
        raise refused("config.json", f"matryoshka_dimensions = {found!r} is not a list of sizes")
    return tuple(sorted(found))


# ------------------------------------------------------------------------------------------------ the files


class _SentenceBert(Described):
    max_seq_length: int | None = None
    do_lower_case: bool | None = None
    transformer_task: str | None = None
    module_output_name: str | None = None
    modality_config: dict[str, dict[str, Any]] | None = None
    unpad_inputs: bool | None = None  # a matter of speed in torch: the vectors are the same


class _SentenceTransformer(BaseModel):
    """Other keys are ignored here, as sentence-transformers ignores them."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: str | None = None
    truncate_dim: int | None = None
    model_type: str | None = None
    matryoshka_dimensions: list[int] | None = None
