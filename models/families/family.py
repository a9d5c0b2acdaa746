"""What the compiler knows of a family of encoders, and how a family says no."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from models.graph import Graph
from models.weights import Array, Weights
from service.errors import CheckpointError

Builder = Callable[[Graph, Mapping[str, Any], Weights], str]
"""Graph, config.json, weights → the last hidden state (rows, length, hidden).

It declares input_ids and attention_mask. Where the graph has an input token_type_ids already, tokens are of the
segments that it says; otherwise all of them are of the first. Raises CheckpointError for what it would get wrong.
"""

Int8Builder = Callable[[Graph, Mapping[str, Any], Weights, Mapping[str, Array]], str]
"""The same with 8-bit weights; it also takes what `calibrate.peaks` gives."""


@dataclass(frozen=True, slots=True)
class Family:
    """How the encoders of one model type are built; `build_int8` is None where 8 bits are not supported.

    `knows_its_code`: its checkpoints bring code of their authors' in `auto_map`, which the graph does as well.
    """

    build: Builder
    build_int8: Int8Builder | None = None
    knows_its_code: bool = False


_Config = TypeVar("_Config", bound=BaseModel)


def validated(kind: type[_Config], config: Mapping[str, Any], names: Mapping[str, str] | None = None) -> _Config:
    """The fields of `kind` from config.json, where they may have other `names`. Raises CheckpointError."""
    own = {field: (names or {}).get(field, field) for field in kind.model_fields}
    try:
        return kind.model_validate({field: config[name] for field, name in own.items() if name in config})
    except ValidationError as error:
        first = error.errors()[0]
        field, *inner = map(str, first["loc"])
        raise refused(f"{'.'.join([own.get(field, field), *inner])}: {first['msg']}") from error


def refuse_foreign_code(config: Mapping[str, Any], loader: str = "AutoModel") -> None:
    """Raises CheckpointError where config.json names a class of its own, which may compute something else, for what
    `loader` of transformers loads."""
    if own := (config.get("auto_map") or {}).get(loader):
        raise CheckpointError(
            f"config.json: auto_map says that {own} computes the vectors, and a checkpoint's own code is never run",
            "remove auto_map if transformers' own class gives the same vectors",
        )


def expect(config: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raises CheckpointError where config.json has one of these keys with another value than those allowed."""
    for key, values in allowed.items():
        if key in config and config[key] not in values:
            raise refused(f"{key} = {config[key]!r} is not supported")


def refused(reason: str) -> CheckpointError:
    """For a configuration that the family's builder does not understand."""
    return CheckpointError(f"config.json: {reason}", "compile it with --route export, or from its authors' ONNX file")
