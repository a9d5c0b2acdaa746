"""Writes what the chart's schema says a second time: descriptions of values, and settings of the server.

`python -m deploy.chart_schema` (a part of `make docs`). What a value may be stands in values.schema.json itself, and is
written by hand; its description comes from the comment `## @param` in values.yaml, and the definitions `settings` and
`servedModel` from service/settings.py. They are of JSON Schema's draft 7, which every Helm 3 and 4 reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.app import own_paths
from service.settings import ServedModel, Settings

CHART = Path(__file__).parent.parent / "helm" / "embedserve"
_PARAM = re.compile(r"^\s*## @param (\S+) (?:\[([^]]*)\] )?(.+)$", re.MULTILINE)
_USED = (
    "type",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "minLength",
    "items",
    "additionalProperties",
    "pattern",
)
# Shared by the models of a process (service/settings.py refuses them in a table).
_NOT_OF_ONE_MODEL = ("executors",)


def schema(values: str, written: str) -> str:
    """values.schema.json from values.yaml's text and its own, as it stands. Raises KeyError: a value is not in it."""
    found = json.loads(written)
    for path, kind, description in _PARAM.findall(values):
        _property(found, path)["description"] = description
        _require(found, path, nullable=kind == "nullable")
    found["definitions"]["settings"] = _settings()
    found["definitions"]["servedModel"] = _served_model()
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"


def _property(schema: dict[str, Any], path: str) -> dict[str, Any]:
    for name in path.split("."):
        if name not in schema.get("properties", {}):
            raise KeyError(f"values.schema.json does not say what {path} may be")
        schema = schema["properties"][name]
    return schema


def _require(schema: dict[str, Any], path: str, *, nullable: bool) -> None:
    """All of the path. Every value has a default, so what is missing was set to null, for which no template is made."""
    *groups, last = path.split(".")
    for name in groups if nullable else (*groups, last):
        schema["required"] = sorted({*schema.get("required", ()), name})
        schema = schema["properties"][name]


def _settings() -> dict[str, Any]:
    """Those that the chart says itself are in it as well: templates/_validate.tpl refuses them with a remedy."""
    told = Settings.model_json_schema()
    found = _object(told["properties"], told["$defs"])
    for name in ("predict_route", "health_route"):
        found["properties"][name]["not"] = {"enum": sorted(path for path in own_paths() if "{" not in path)}
    return found


def _served_model() -> dict[str, Any]:
    told = ServedModel.model_json_schema()
    own = {name: one for name, one in told["properties"].items() if name not in _NOT_OF_ONE_MODEL}
    return _object(own, told["$defs"]) | {"required": told["required"]}


def _object(properties: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: _plain(one, definitions) for name, one in sorted(properties.items()) if name != "models"}
    return {"type": "object", "additionalProperties": False, "properties": known}


def _plain(told: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """Without titles, defaults, references, formats and null, which in values means that a key is left out."""
    if "anyOf" in told:
        told = {**next(one for one in told["anyOf"] if one.get("type") != "null"), "description": told["description"]}
    if "$ref" in told:
        told = {**definitions[told["$ref"].rpartition("/")[2]], **told}
    if told.get("type") == "array":
        pattern = {name: one for name, one in told.get("items", {}).items() if name == "pattern"}
        told = {**told, "items": {"type": "string", **pattern}}
    return {name: told[name] for name in (*_USED, "description") if name in told}


if __name__ == "__main__":
    file = CHART / "values.schema.json"
    file.write_text(schema((CHART / "values.yaml").read_text("utf-8"), file.read_text("utf-8")), "utf-8")
