"""modules.json and the folders it names: from token vectors to the sentence vector, step by step.

Files and meaning are those of sentence-transformers 2 to 6. The class paths changed between versions, their last part
did not; a class from anywhere else is code of the model's authors, which nobody here has read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from models.activations import ACTIVATIONS
from models.descriptions import Described, parse, read_any_json, refuse_unknown, refused
from service.bundle import PoolingMode
from service.errors import CheckpointError

MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)

_DEEPEST = 2
"""Folders between modules.json and a module's files."""

PYLATE = ("pylate.models.Dense.Dense",)
"""Its class, with the files of sentence-transformers' own."""


@dataclass(frozen=True)
class Pooling:
    """Token vectors → one vector: the results of `modes`, side by side. Without `include_prompt`, of what follows the
    prompt. `width` is that of the token vectors, where the file names it."""

    modes: tuple[PoolingMode, ...]
    include_prompt: bool = True
    width: int | None = None

    def __str__(self) -> str:
        return "+".join(self.modes)


@dataclass(frozen=True)
class Dense:
    """y = activation(x · weightᵀ + bias) [+ x, or x · residualᵀ], read from `folder`/model.safetensors."""

    folder: Path
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool = False


@dataclass(frozen=True)
class LayerNorm:
    """y = (x − mean) / √(variance + 1e-5) · weight + bias, read from `folder`/model.safetensors."""

    folder: Path
    size: int


@dataclass(frozen=True)
class Normalize:
    """Division by the L2 norm."""


@dataclass(frozen=True)
class Truncate:
    """The first `size` numbers; not normalised again, as sentence-transformers does not."""

    size: int


Head = Dense | LayerNorm | Normalize | Truncate


@dataclass(frozen=True)
class Modules:
    """The encoder's `folder` and what comes after it."""

    folder: Path
    pooling: Pooling
    heads: tuple[Head, ...] = ()


def read_modules(root: Path, pooling: PoolingMode | None) -> Modules:
    """`pooling` is for folders without modules.json. Raises CheckpointError for what is not understood."""
    path = root / "modules.json"
    if not path.is_file():
        if pooling is None:
            raise CheckpointError(
                f"{root} does not say how token vectors become one vector: it has no modules.json",
                f"name it as its authors do: embedserve compile SOURCE --pooling {'|'.join(MODES)}",
            )
        return Modules(root, Pooling((pooling,)))
    if pooling is not None:
        raise CheckpointError(f"--pooling {pooling} contradicts {path}, which names the pooling", "leave --pooling out")
    modules = module_list(path)
    kinds = [kind for kind, _ in modules]
    for kind in kinds:
        if kind in _REFUSED:
            raise refused(path, f"module {kind} {_REFUSED[kind][0]}", _REFUSED[kind][1])
    if kinds[:2] != ["Transformer", "Pooling"]:
        raise refused(path, f"the modules are {', '.join(kinds) or 'none'}; Transformer, Pooling, … is understood")
    return Modules(modules[0][1], read_pooling(modules[1][1] / "config.json"), read_heads(path, modules[2:]))


def read_heads(path: Path, modules: Sequence[tuple[str, Path]]) -> tuple[Head, ...]:
    """What comes after the vector of a text is made. Raises CheckpointError."""
    heads = (read_head(path, kind, folder) for kind, folder in modules)
    return tuple(head for head in heads if head)


def module_list(path: Path, known: Collection[str] = ()) -> list[tuple[str, Path]]:
    """(class name, folder) of each module of a modules.json, in order; `known` are classes of other packages.

    Raises CheckpointError.
    """
    try:
        found = [(str(one["type"]), str(one["path"]), one.get("kwargs")) for one in read_any_json(path)]
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{path} is malformed: {error!r}", "fetch the checkpoint again") from error
    for kind, folder, arguments in found:
        if not kind.startswith("sentence_transformers.") and kind not in known:
            raise refused(path, f"module {kind} is code of the model's own, which is never run")
        if arguments:
            raise refused(path, f"module {kind} takes arguments of each call ({', '.join(map(str, arguments))})")
        _refuse_far_folder(path, kind, PurePosixPath(folder))
    return [(kind.rpartition(".")[2], path.parent / folder) for kind, folder, _ in found]


def _refuse_far_folder(path: Path, kind: str, folder: PurePosixPath) -> None:
    """A compiled bundle is found again by what lies in the checkpoint's folder, as deep as `recipe.DEPTHS` says."""
    if folder.is_absolute() or ".." in folder.parts or len(folder.parts) > _DEEPEST:
        raise refused(
            path,
            f"module {kind} lies in {str(folder)!r}, outside of the checkpoint or too deep in it",
            "save the model again with sentence-transformers, which gives each module a folder beside modules.json",
        )


_ITS_TOKENIZER = "reads words by a tokenizer of its own", "train or pick a model with a Transformer"
_ROUTES = (
    "leads queries and documents through models of their own",
    "save each route as a model of its own with sentence-transformers, and serve both",
)
_REFUSED: Mapping[str, tuple[str, str]] = {
    "Router": _ROUTES,
    "Asym": _ROUTES,
    "WeightedLayerPooling": ("needs the vectors of all layers, the graph has those of the last", "pick another model"),
    "CNN": ("is a network over token vectors that the compiler does not build", "pick a model without it"),
    "LSTM": ("is a network over token vectors that the compiler does not build", "pick a model without it"),
    "WordWeights": ("weights each word by a table of its own", "pick a model without it"),
    "WordEmbeddings": _ITS_TOKENIZER,
    "BoW": _ITS_TOKENIZER,
    "CLIPModel": ("reads images and texts by two encoders", "pick a model for texts"),
}
"""Module → why it is refused, and what to do instead."""


def read_head(path: Path, kind: str, folder: Path, of: str = "sentence_embedding") -> Head | None:
    """A module after the pooling, or after the encoder where it works on vectors `of` tokens. None for what does
    nothing when a model is only used. Raises CheckpointError."""
    match kind:
        case "Dense":
            return _dense(folder, of)
        case "LayerNorm":
            found = parse(_LayerNorm, folder / "config.json")
            refuse_unknown(folder / "config.json", found.model_extra or {})
            _require_weights(folder)
            return LayerNorm(folder, found.dimension)
        case "Normalize":
            _refuse_rewiring(parse(_Wiring, folder / "config.json", optional=True), folder / "config.json", of)
            return Normalize()
        case "Dropout":
            return None
    raise refused(path, f"module {kind} is not understood after Pooling (Dense, LayerNorm, Normalize, Dropout are)")


def read_pooling(path: Path) -> Pooling:
    """Of a pooling module's config.json. Raises CheckpointError."""
    found = parse(_Pooling, path)
    extra = found.model_extra or {}
    flags = {key: value for key, value in extra.items() if key.startswith("pooling_mode_")}
    refuse_unknown(path, {key: value for key, value in extra.items() if key not in flags})
    named = [found.pooling_mode] if isinstance(found.pooling_mode, str) else found.pooling_mode
    modes = _by_flags(path, flags) if named is None else named
    if not modes:
        raise refused(path, "it names no pooling mode", "name one: pooling_mode, as the model's authors say")
    width = found.embedding_dimension or found.word_embedding_dimension
    return Pooling(tuple(_mode(path, mode) for mode in modes), found.include_prompt, width)


def _by_flags(path: Path, flags: Mapping[str, Any]) -> Sequence[str]:
    """The files of sentence-transformers up to 5: one boolean a mode, several of them side by side in its order."""
    for flag, value in flags.items():
        if value and flag not in _FLAGS:
            raise refused(path, f"{flag} is not understood ({', '.join(_FLAGS)} are)")
    if flags and "pooling_mode_mean_tokens" not in flags:
        raise refused(
            path,
            "pooling_mode_mean_tokens is missing, which versions of sentence-transformers read differently",
            "set it to true or false, as the model's authors say",
        )
    return [mode for flag, mode in _FLAGS.items() if flags.get(flag)]


_FLAGS: Mapping[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def _mode(path: Path, name: str) -> PoolingMode:
    for mode in MODES:
        if mode == name:
            return mode
    raise refused(path, f"pooling {name} is not supported ({', '.join(MODES)} are)")


def _dense(folder: Path, of: str) -> Dense:
    path = folder / "config.json"
    found = parse(_Dense, path)
    _refuse_rewiring(found, path, of)
    module, _, name = found.activation_function.rpartition(".")
    if not module.startswith("torch.nn.") or name.lower() not in ACTIVATIONS:
        raise refused(
            path, f"activation_function {found.activation_function} is none of torch.nn's {', '.join(ACTIVATIONS)}"
        )
    _require_weights(folder)
    return Dense(folder, found.in_features, found.out_features, found.bias, name.lower(), found.use_residual)


def _require_weights(folder: Path) -> None:
    if not (folder / "model.safetensors").is_file():
        raise CheckpointError(
            f"{folder} has no model.safetensors, and pickled weights are never loaded",
            "save the model again with a current sentence-transformers (safe_serialization)",
        )


def _refuse_rewiring(found: _Wiring, path: Path, of: str) -> None:
    for name in (found.module_input_name, found.module_output_name):
        if name not in (None, of):
            raise refused(path, f"a module that reads or writes {name} is not supported")
    refuse_unknown(path, found.model_extra or {})


def check_widths(pooling: Pooling, heads: Sequence[Head], hidden_size: int) -> int:
    """Follows the width of a vector from step to step; the last one's. Raises CheckpointError."""
    if pooling.width not in (None, hidden_size):
        raise refused("the pooling's config.json", f"it is for vectors of {pooling.width}, what comes is {hidden_size}")
    width = hidden_size * len(pooling.modes)
    for head in heads:
        width = _width_after(head, width)
    return width


def _width_after(head: Head, width: int) -> int:
    match head:
        case Dense() if head.in_features != width:
            raise refused(head.folder / "config.json", f"in_features is {head.in_features}, what comes is {width}")
        case LayerNorm() if head.size != width:
            raise refused(head.folder / "config.json", f"dimension is {head.size}, what comes is {width}")
        case Dense():
            return head.out_features
        case Truncate():
            return head.size
    return width


class _Wiring(Described):
    module_input_name: str | None = None
    module_output_name: str | None = None


class _Pooling(Described):
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


class _LayerNorm(Described):
    dimension: int
