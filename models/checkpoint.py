"""What a sentence-transformers folder says of itself, as one value.

Nothing is guessed: what is not understood is refused. The files and their meaning follow
sentence-transformers 2 to 6: modules.json lists the steps, each with a folder of its own; the class paths
changed between versions, their last part did not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from models.recipe import PoolingMode
from service.bundle import is_bundle
from service.errors import CheckpointError

Activation = Literal["identity", "tanh", "gelu", "relu"]

# transformers writes 1e30 into tokenizer_config.json where it knows no limit.
_SANE_LENGTH = 10_000_000


@dataclass(frozen=True)
class Dense:
    """y = activation(x · weightᵀ + bias), read from `folder`/model.safetensors."""

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: Activation


@dataclass(frozen=True)
class Normalize:
    """Division by the L2 norm."""


Head = Dense | Normalize


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as far as it is understood. `folder` is the encoder's own, lengths are in tokens."""

    folder: Path
    config: Mapping[str, Any]
    pooling: PoolingMode
    heads: tuple[Head, ...]
    max_seq_length: int
    lower_case: bool
    pad_token_id: int
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    matryoshka_dimensions: tuple[int, ...]

    @property
    def hidden_size(self) -> int:
        """Width of the token vectors."""
        return require_int(self.config, "hidden_size")

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding matrix."""
        return require_int(self.config, "vocab_size")

    @property
    def dimensions(self) -> int:
        """Width of the sentence vectors."""
        dense = [head for head in self.heads if isinstance(head, Dense)]
        return dense[-1].out_features if dense else self.hidden_size

    @property
    def mean_of_tokens(self) -> bool:
        """Whether the vector, before normalisation, is the mean of the token vectors."""
        return self.pooling == "mean" and not any(isinstance(head, Dense) for head in self.heads)

    @property
    def normalized(self) -> bool:
        """Whether the last step is an L2 normalisation."""
        return bool(self.heads) and isinstance(self.heads[-1], Normalize)


def read_checkpoint(root: Path, pooling: PoolingMode | None = None) -> Checkpoint:
    """Reads every description in the folder. `pooling` is for folders without modules.json.

    Raises CheckpointError for what is missing, malformed or not understood.
    """
    if is_bundle(root):
        raise CheckpointError(f"{root} is a bundle already", "serve it as it is")
    folder, pooling, heads = _modules(root, pooling)
    config = read_json(folder / "config.json")
    sentence = _parse(_SentenceBert, folder / "sentence_bert_config.json", optional=True)
    _refuse_other_tasks(sentence, folder / "sentence_bert_config.json")
    saved = _parse(_SentenceTransformer, root / "config_sentence_transformers.json", optional=True)
    prompts = _prompts(saved)
    tokenizer_config = read_json(folder / "tokenizer_config.json", optional=True)
    checkpoint = Checkpoint(
        folder=folder,
        config=config,
        pooling=pooling,
        heads=heads,
        max_seq_length=_max_seq_length(sentence, tokenizer_config, config),
        lower_case=sentence.do_lower_case or False,
        pad_token_id=_pad_token_id(config),
        prompts=prompts,
        default_prompt_name=saved.default_prompt_name,
        matryoshka_dimensions=_matryoshka(saved, config),
    )
    _check_widths(checkpoint)
    return checkpoint


# ---------------------------------------------------------------------------------------------- modules


def _modules(root: Path, pooling: PoolingMode | None) -> tuple[Path, PoolingMode, tuple[Head, ...]]:
    """The encoder's folder, the pooling, and what follows it."""
    path = root / "modules.json"
    if not path.is_file():
        if not (root / "config.json").is_file():
            raise CheckpointError(
                f"{root} is not a checkpoint: it has neither modules.json nor config.json",
                "pass the folder of a sentence-transformers model",
            )
        if pooling is None:
            raise CheckpointError(
                f"{root} does not say how token vectors become one vector: it has no modules.json",
                "pass --pooling cls, mean or max, as the model's authors say",
            )
        return root, pooling, ()
    if pooling is not None:
        raise CheckpointError(f"--pooling {pooling} contradicts {path}, which names the pooling", "leave --pooling out")
    modules = _module_list(path)
    kinds = [kind for kind, _ in modules]
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise _refused(path, f"the modules are {', '.join(kinds)}; Transformer, Pooling, … is understood")
    heads = tuple(_head(path, kind, folder) for kind, folder in modules[2:])
    return modules[0][1], _pooling(modules[1][1] / "config.json"), heads


def _module_list(path: Path) -> list[tuple[str, Path]]:
    """(class name, folder) of each module, in order."""
    try:
        return [
            (str(one["type"]).rpartition(".")[2], path.parent / str(one["path"]))
            for one in json.loads(path.read_text("utf-8"))
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is malformed: {error!r}", "fetch the checkpoint again") from error


def _head(path: Path, kind: str, folder: Path) -> Head:
    match kind:
        case "Dense":
            return _dense(folder)
        case "Normalize":
            _refuse_rewiring(_parse(_Wiring, folder / "config.json", optional=True), folder / "config.json")
            return Normalize()
    raise _refused(path, f"module {kind} is not understood after Pooling (Dense and Normalize are)")


def _pooling(path: Path) -> PoolingMode:
    """One mode. The booleans are those of sentence-transformers up to 5, the string is its successor."""
    found = _parse(_Pooling, path)
    extra = found.model_extra or {}
    modes = [found.pooling_mode] if isinstance(found.pooling_mode, str) else found.pooling_mode
    if modes is None:
        modes = [
            key.removeprefix("pooling_mode_").removesuffix("_token").removesuffix("_tokens")
            for key, value in extra.items()
            if key.startswith("pooling_mode_") and value
        ]
    if not found.include_prompt:
        raise _refused(path, "include_prompt = false (prompt tokens left out of the pooling) is not supported")
    _refuse_unknown(path, {key: value for key, value in extra.items() if not key.startswith("pooling_mode_")})
    if len(modes) != 1:
        names = " + ".join(modes) or "none"
        raise _refused(path, f"exactly one pooling mode is supported, this has {names}")
    for mode in get_args(PoolingMode):
        if mode == modes[0]:
            return mode  # type: ignore[no-any-return]
    raise _refused(path, f"pooling {modes[0]} is not supported (cls, mean and max are)")


def _dense(folder: Path) -> Dense:
    path = folder / "config.json"
    found = _parse(_Dense, path)
    _refuse_rewiring(found, path)
    if found.use_residual:
        raise _refused(path, "use_residual is not supported")
    name = found.activation_function.rpartition(".")[2].lower()
    for activation in get_args(Activation):
        if activation == name:
            if not (folder / "model.safetensors").is_file():
                raise CheckpointError(
                    f"{folder} has no model.safetensors, and pickled weights are never loaded",
                    "save the model again with a current sentence-transformers (safe_serialization)",
                )
            return Dense(folder, found.in_features, found.out_features, found.bias, activation)
    raise _refused(path, f"activation_function {found.activation_function} is not one of identity, tanh, gelu, relu")


def _refuse_rewiring(found: _Wiring, path: Path) -> None:
    for name in (found.module_input_name, found.module_output_name):
        if name not in (None, "sentence_embedding"):
            raise _refused(path, f"a module that reads or writes {name} is not supported")
    _refuse_unknown(path, found.model_extra or {})


# ------------------------------------------------------------------------------------- single settings


def _max_seq_length(sentence: _SentenceBert, tokenizer_config: Mapping[str, Any], config: Mapping[str, Any]) -> int:
    """As sentence-transformers does: its own file wins over tokenizer_config.json; the positions bound both."""
    limit = tokenizer_config.get("model_max_length")
    stated = sentence.max_seq_length or (
        int(limit) if isinstance(limit, int | float) and 0 < limit < _SANE_LENGTH else None
    )
    positions = require_int(config, "max_position_embeddings")
    return min(stated, positions) if stated else positions


def _refuse_other_tasks(sentence: _SentenceBert, path: Path) -> None:
    if sentence.transformer_task not in (None, "feature-extraction"):
        raise _refused(path, f"transformer_task {sentence.transformer_task} is not supported")
    if sentence.module_output_name not in (None, "token_embeddings"):
        raise _refused(path, f"module_output_name {sentence.module_output_name} is not supported")
    for modality, settings in (sentence.modality_config or {}).items():
        if modality != "text" or settings.get("method_output_name") not in (None, "last_hidden_state"):
            raise _refused(path, f"modality {modality} with {settings} is not supported")
    _refuse_unknown(path, sentence.model_extra or {})


def _prompts(saved: _SentenceTransformer) -> dict[str, str]:
    """sentence-transformers writes null for prompts that it merely knows the names of."""
    path = "config_sentence_transformers.json"
    if saved.model_type not in (None, "SentenceTransformer"):
        raise _refused(path, f"model_type {saved.model_type} is not a sentence embedding model")
    if saved.truncate_dim is not None:
        raise _refused(path, f"truncate_dim = {saved.truncate_dim} is not supported", "remove it; ask for `dimensions`")
    prompts = {name: text for name, text in (saved.prompts or {}).items() if text is not None}
    if saved.default_prompt_name is not None and saved.default_prompt_name not in prompts:
        raise _refused(path, f"default_prompt_name {saved.default_prompt_name!r} is not among the prompts")
    return prompts


def _pad_token_id(config: Mapping[str, Any]) -> int:
    """Masked positions may hold any id of the vocabulary: 0 where the model names none."""
    found = config.get("pad_token_id")
    return found if isinstance(found, int) and 0 <= found < require_int(config, "vocab_size") else 0


def _matryoshka(saved: _SentenceTransformer, config: Mapping[str, Any]) -> tuple[int, ...]:
    """Sizes the model was trained to be cut to, where it says so; there is no standard place for it."""
    found = saved.matryoshka_dimensions or config.get("matryoshka_dimensions") or ()
    if not isinstance(found, list | tuple) or not all(isinstance(size, int) and size > 0 for size in found):
        raise _refused("config.json", f"matryoshka_dimensions = {found!r} is not a list of sizes")
    return tuple(sorted(found))


def _check_widths(checkpoint: Checkpoint) -> None:
    width = checkpoint.hidden_size
    for head in checkpoint.heads:
        if isinstance(head, Dense):
            if head.in_features != width:
                raise _refused(head.folder / "config.json", f"in_features is {head.in_features}, what comes is {width}")
            width = head.out_features


# ------------------------------------------------------------------------------------ files and refusals


class _Described(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True)  # extras are looked at one by one


class _Wiring(_Described):
    module_input_name: str | None = None
    module_output_name: str | None = None


class _Pooling(_Described):
    pooling_mode: str | list[str] | None = None
    include_prompt: bool = True
    word_embedding_dimension: int | None = None
    embedding_dimension: int | None = None


class _Dense(_Wiring):
    in_features: int
    out_features: int
    bias: bool = True
    activation_function: str = "torch.nn.modules.activation.Tanh"
    use_residual: bool = False


class _SentenceBert(_Described):
    max_seq_length: int | None = None
    do_lower_case: bool | None = None
    transformer_task: str | None = None
    module_output_name: str | None = None
    modality_config: dict[str, dict[str, Any]] | None = None
    unpad_inputs: bool | None = None  # a matter of speed in torch: the vectors are the same


class _SentenceTransformer(BaseModel):
    """Other keys are ignored here, as sentence-transformers ignores them; similarity_fn_name is the client's."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    truncate_dim: int | None = None
    model_type: str | None = None
    matryoshka_dimensions: list[int] | None = None


_Description = TypeVar("_Description", bound=BaseModel)


def _parse(kind: type[_Description], path: Path, *, optional: bool = False) -> _Description:
    try:
        return kind.model_validate(read_json(path, optional=optional))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _refused(path, f"{where}: {first['msg']}") from error


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON object; empty where an optional file does not exist. Raises CheckpointError."""
    if optional and not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "the checkpoint is incomplete") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}", "fetch the checkpoint again") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object", "fetch the checkpoint again")
    return found


def require_int(config: Mapping[str, Any], key: str) -> int:
    """A positive size from config.json. Raises CheckpointError."""
    found = config.get(key)
    if not isinstance(found, int) or found <= 0:
        raise _refused("config.json", f"{key} is {found!r}, not a positive number")
    return found


def _refuse_unknown(path: Path, extra: Mapping[str, Any]) -> None:
    """A setting that is off, empty or null changes nothing, whatever it means."""
    for key, value in extra.items():
        if value not in (None, False, "", [], {}):
            raise _refused(path, f"{key} = {value!r} is not understood")


def _refused(
    path: Path | str, reason: str, remedy: str = "this model cannot be served as its authors meant it"
) -> CheckpointError:
    return CheckpointError(f"{path}: {reason}", remedy)
