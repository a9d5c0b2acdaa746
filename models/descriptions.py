"""The JSON files of a checkpoint: read, held to what is understood of them, refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from service.errors import CheckpointError

NOT_AS_MEANT = "save the model again without it, or use another: it could not be served as its authors meant it"

_MOST_POSITIONS = 2**24  # a table of angles for more would fill a machine's memory


class Described(BaseModel):
    """A file whose other keys are kept in `model_extra`, to be looked at one by one."""

    model_config = ConfigDict(extra="allow", frozen=True)


Description = TypeVar("Description", bound=BaseModel)


def parse(kind: type[Description], path: Path, *, optional: bool = False, remedy: str = NOT_AS_MEANT) -> Description:
    """The file as `kind`; the defaults where an optional one does not exist. Raises CheckpointError."""
    try:
        return kind.model_validate(read_json(path, optional=optional))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise refused(path, f"{where}: {first['msg']}", remedy) from error


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """A JSON object; empty where an optional file does not exist. Raises CheckpointError."""
    if optional and not path.is_file():
        return {}
    found = read_any_json(path)
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is not a JSON object", "fetch the checkpoint again")
    return found


def read_any_json(path: Path) -> Any:
    """JSON of any kind, whose texts can be written as UTF-8. Raises CheckpointError."""
    try:
        text = path.read_text("utf-8")
        found = json.loads(text)
        if "\\ud" in text.lower():  # one half of a pair, without the other, is JSON and no text
            json.dumps(found, ensure_ascii=False).encode()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", "the checkpoint is incomplete") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not JSON: {error}", "fetch the checkpoint again") from error
    return found


class _Config(BaseModel):
    """config.json's keys that are looked at before a family looks at them all, and of what types they must be."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model_type: str | None = None
    architectures: list[str] | None = None
    auto_map: dict[str, Any] | None = None
    pad_token_id: int | None = None
    cls_token_id: int | None = None
    sep_token_id: int | None = None
    head_dim: int | None = None
    type_vocab_size: int | None = None
    max_position_embeddings: int | None = Field(None, le=_MOST_POSITIONS)
    n_positions: int | None = Field(None, le=_MOST_POSITIONS)
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None


def read_config(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """config.json as it is, if it is one. Raises CheckpointError."""
    parse(_Config, path, optional=optional)
    return read_json(path, optional=optional)


class _Part(BaseModel):
    """Of a tokenizer; a sequence of such names the others in one of the lists."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: str
    normalizers: list[dict[str, Any]] = []
    pretokenizers: list[dict[str, Any]] = []


class _AddedToken(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    id: int
    content: str


class _TokenizerModel(BaseModel):
    """Unigram vocabularies are lists, by id."""

    model_config = ConfigDict(strict=True, extra="ignore")

    type: str | None = None
    vocab: dict[str, int] | list[Annotated[list[Any], Field(min_length=1)]]
    unk_token: str | None = None
    unk_id: int | None = None


class _Tokenizer(BaseModel):
    """tokenizer.json's keys that are looked at before the library looks at them all."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: _TokenizerModel
    normalizer: _Part | None = None
    pre_tokenizer: _Part | None = None
    added_tokens: list[_AddedToken] | None = None


def read_tokenizer(path: Path) -> dict[str, Any]:
    """tokenizer.json as it is, if it is one as far as the compiler looks at it. Raises CheckpointError."""
    parse(_Tokenizer, path, remedy="fetch the checkpoint again")
    return read_json(path)


def refuse_unknown(path: Path, extra: Mapping[str, Any]) -> None:
    """A setting that is off, empty or null changes nothing, whatever it means."""
    for key, value in extra.items():
        if value not in (None, False, "", [], {}):
            raise refused(path, f"{key} = {value!r} is not understood")


def refused(path: Path | str, reason: str, remedy: str = NOT_AS_MEANT) -> CheckpointError:
    """To be raised for what `path` says."""
    return CheckpointError(f"{path}: {reason}", remedy)
