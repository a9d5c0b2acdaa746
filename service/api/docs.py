"""The OpenAPI document, written from the operations themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import service
from service.api.errors import own_statuses
from service.api.http import Dialect, Operation

Named = Mapping[Any, Any]
"""Schema → the reference to it."""

_REF = "#/components/schemas/{model}"
_PATH_PARAMETER = re.compile(r"{(\w+)(?::\w+)?}")
_POST_ERRORS = {
    "400": "The request cannot be served as it stands",
    "401": "No API key, or a wrong one",
    "404": "No model of that name",
    "408": "The body did not arrive in time",
    "413": "The body is over the limit",
    "429": "The queue is full; see Retry-After",
    "500": "The server failed",
    "503": "Loading or draining; see Retry-After",
    "504": "Not finished in time; the work was dropped",
}
_GET_ERRORS = {status: _POST_ERRORS[status] for status in ("401", "404", "503")}


def openapi(served: Sequence[tuple[Dialect, Iterable[Operation]]]) -> dict[str, Any]:
    """OpenAPI 3.1. Paths without a key have only their own replies."""
    documented = [(dialect, one) for dialect, operations in served for one in operations if one.documented]
    schemas = {dialect.ERROR for dialect, _ in documented}
    schemas |= {schema for _, one in documented for schema in (one.request, one.response) if schema is not None}
    modes: list[tuple[type[BaseModel], Any]] = [
        (schema, "validation") for schema in sorted(schemas, key=lambda schema: (schema.__module__, schema.__name__))
    ]
    # pydantic knows how it names them, also where two dialects have a schema of the same name.
    references, definitions = models_json_schema(modes, ref_template=_REF)
    named = {schema: reference for (schema, _), reference in references.items()}
    paths: dict[str, dict[str, Any]] = {}
    for dialect, operation in documented:
        for path in operation.paths:
            plain = _PATH_PARAMETER.sub(r"{\1}", path)
            described = _describe(operation, path, dialect, named)
            paths.setdefault(plain, {}).setdefault(operation.method.lower(), described)  # as in app._by_path
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Embedserve",
            "version": service.__version__,
            "description": "Embeddings in OpenAI's, Google Vertex AI's and others' own words.",
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "api-key": {"type": "apiKey", "in": "header", "name": "api-key"},
                "x-goog-api-key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"},
                "key": {"type": "apiKey", "in": "query", "name": "key"},
            },
        },
    }


def _describe(operation: Operation, path: str, dialect: Dialect, named: Named) -> dict[str, Any]:
    schema = {"type": "string"} if operation.response is None else named[operation.response]
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [dialect.NAME],
        "operationId": f"{operation.method.lower()}_{re.sub(r'[^a-zA-Z0-9]+', '_', path).strip('_')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PATH_PARAMETER.findall(path)
        ],
        "responses": {
            "200": {"description": "OK", "content": {operation.content_type: {"schema": schema}}},
            **_errors(operation, dialect, named),
        },
    }
    if operation.request is not None:
        content = {"application/json": {"schema": named[operation.request]}}
        described["requestBody"] = {"required": True, "content": content}
    if operation.needs_key:
        described["security"] = [{}, {"bearer": []}, {"api-key": []}, {"x-goog-api-key": []}, {"key": []}]
    return described


def _errors(operation: Operation, dialect: Dialect, named: Named) -> dict[str, Any]:
    if not operation.needs_key:
        if operation.response is None:
            return {}
        content = {"application/json": {"schema": named[operation.response]}}
        return {"503": {"description": "Not now", "content": content}}
    statuses = _GET_ERRORS
    if operation.method == "POST":
        own = own_statuses(dialect) or {}
        statuses = {str(status.http): (kind.__doc__ or "").rstrip(".") for kind, status in own.items()} | _POST_ERRORS
    content = {"application/json": {"schema": named[dialect.ERROR]}}
    return {status: {"description": text, "content": content} for status, text in statuses.items()}
