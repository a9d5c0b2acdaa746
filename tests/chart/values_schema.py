"""The chart's values beside their schema: which there are, and what else each could be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from tests.chart.helm import CHART

Schema = dict[str, Any]
Path = tuple[str, ...]

DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
SCHEMA: Schema = json.loads((CHART / "values.schema.json").read_text("utf-8"))

# Texts of all forms that the schema knows; the first that a value may be, and is not yet, is its other value.
_TEXTS = (
    "another",
    "nvidia.com/another",
    f"sha256:{'a' * 64}",
    "3Gi",
    "https://another.example.org",
    "s3://another/models",
    "/another",
    "45s",
    "5s",
    "50%",
    "10001",
)


def resolved(schema: Schema) -> Schema:
    """Without a reference."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return {**SCHEMA["definitions"][reference.rpartition("/")[2]], **{k: v for k, v in schema.items() if k != "$ref"}}


def at(path: Path) -> Schema:
    """The schema of a value. Raises KeyError: there is none."""
    found = SCHEMA
    for name in path:
        found = resolved(found["properties"][name])
    return found


def leaves(values: Mapping[str, Any] | None = None, path: Path = ()) -> Iterator[Path]:
    """Every value of values.yaml that is described: the others are the maps that those are in."""
    for name, value in (DEFAULTS if values is None else values).items():
        here = (*path, name)
        if isinstance(value, dict) and value and "description" not in at(here):
            yield from leaves(value, here)
        else:
            yield here


def listed(schema: Schema | None = None, path: Path = ()) -> Iterator[Path]:
    """Every value that the schema names, outside of lists and of free maps."""
    for name, one in (SCHEMA if schema is None else schema)["properties"].items():
        inner = resolved(one)
        if "properties" in inner:
            yield from listed(inner, (*path, name))
        else:
            yield (*path, name)


def value_at(values: Mapping[str, Any], path: Path) -> Any:
    """None where it is not said."""
    found: Any = values
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def nested(path: Path, value: Any) -> dict[str, Any]:
    """Values that say this and nothing else."""
    for name in reversed(path):
        value = {name: value}
    found: dict[str, Any] = value
    return found


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm lays one file of values over another."""
    both = {
        name: merged(values[name], value)
        for name, value in over.items()
        if isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
    }
    return {**values, **over, **both}


def another(value: Any, schema: Schema) -> Any:
    """A value that the schema allows beside this one. Raises LookupError: it is not plain to see which."""
    if "enum" in schema:
        return next(one for one in schema["enum"] if one not in (value, None))
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, bool) or "boolean" in kinds:
        return not value
    if isinstance(value, int | float) or (not {"integer", "number"}.isdisjoint(kinds) and value is None):
        return _number(value or 0, schema)
    if "string" in kinds:
        return _text(value, schema.get("pattern", ""))
    if "array" in kinds and resolved(schema["items"]).get("type") == "string":
        return [_text(None, resolved(schema["items"]).get("pattern", ""))]
    if "object" in kinds and isinstance(schema.get("additionalProperties"), dict):
        return {**(value or {}), "example.org/another": "another"}
    raise LookupError(schema)


def _number(value: float, schema: Schema) -> float:
    if value % 1:
        return value / 2
    return value + 1 if value + 1 <= schema.get("maximum", value + 1) else value - 1


def _text(value: object, pattern: str) -> str:
    for text in _TEXTS:
        if text != value and re.search(pattern, text):
            return text
    raise LookupError(pattern)


def strict_objects(schema: object, where: str = "values") -> Iterator[tuple[str, bool]]:
    """Every object of the schema that names its properties, and whether it refuses others."""
    if isinstance(schema, Mapping):
        if isinstance(schema.get("properties"), Mapping) and schema.get("type") == "object":
            yield where, schema.get("additionalProperties") is False
        for name, inner in schema.items():
            yield from strict_objects(inner, f"{where}.{name}")
    elif isinstance(schema, Sequence) and not isinstance(schema, str):
        for inner in schema:
            yield from strict_objects(inner, where)
