"""The OpenAPI document, written from the operations themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import service
from service.api import oip_binary
from service.api.errors import own_statuses
from service.api.http import JSON, Dialect, Operation

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
    "429": "A rate limit is reached, or the queue is full; see Retry-After",
    "500": "The server failed",
    "503": "Loading or draining; see Retry-After",
    "504": "Not finished in time; the work was dropped",
}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds to wait", "schema": {"type": "integer", "minimum": 1}}}
_TENSORS = {"description": "The JSON, then the tensors' bytes", "type": "string", "format": "binary"}
_JSON_LENGTH = {"description": "Where the JSON ends", "schema": {"type": "integer", "minimum": 0}}
_DESCRIPTION = (
    "Embeddings in OpenAI's, Google Vertex AI's and others' own words. A path answers 405, with Allow, to methods "
    "that it does not have; where it has GET it has HEAD."
)


def openapi(served: Sequence[tuple[Dialect, Iterable[Operation]]]) -> dict[str, Any]:
    """OpenAPI 3.1. As in app._by_path, the first dialect on a path gives it the words for errors."""
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
    speakers: dict[str, Dialect] = {}
    for dialect, operation in documented:
        for path in operation.paths:
            plain = _PATH_PARAMETER.sub(r"{\1}", path)
            speaker = speakers.setdefault(plain, dialect)
            described = _describe(operation, path, dialect, named)
            described["responses"] = _responses(operation, path, speaker, named)
            paths.setdefault(plain, {}).setdefault(operation.method.lower(), described)  # as in app._by_path
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Embedserve",
            "version": service.__version__,
            "description": _DESCRIPTION,
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
    described: dict[str, Any] = {
        "summary": operation.summary,
        "tags": [dialect.NAME],
        "operationId": f"{operation.method.lower()}_{re.sub(r'[^a-zA-Z0-9]+', '_', path).strip('_')}",
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in _PATH_PARAMETER.findall(path)
        ],
    }
    if operation.binary:
        described["parameters"].append({"name": oip_binary.HEADER, "in": "header", **_JSON_LENGTH})
    if operation.request is not None:
        content = _content(operation, named[operation.request])
        described["requestBody"] = {"required": True, "content": content}
    if operation.needs_key:
        described["security"] = [{}, {"bearer": []}, {"api-key": []}, {"x-goog-api-key": []}, {"key": []}]
    return described


def _content(operation: Operation, schema: Any, content_type: str = JSON) -> dict[str, Any]:
    content = {content_type: {"schema": schema}}
    return content | {oip_binary.CONTENT_TYPE: {"schema": _TENSORS}} if operation.binary else content


def _responses(operation: Operation, path: str, speaker: Dialect, named: Named) -> dict[str, Any]:
    schema = {"type": "string"} if operation.response is None else named[operation.response]
    good: dict[str, Any] = {"description": "OK", "content": _content(operation, schema, operation.content_type)}
    if operation.binary:
        good["headers"] = {oip_binary.HEADER: _JSON_LENGTH}
    responses = {"200": good}
    error = {JSON: {"schema": named[speaker.ERROR]}}
    for status, text in _errors(operation, path, speaker).items():
        responses[status] = {"description": text, "content": error}
        if "Retry-After" in text:
            responses[status]["headers"] = _RETRY_AFTER
    if operation.method == "GET" and path.endswith(":path}"):
        responses["405"] = {"description": "The name ends as the path of an operation does that is not a GET"}
    if not operation.needs_key and operation.response is not None:  # probes: the same words, another answer
        responses["503"] = {"description": "Not now", "content": good["content"]}
    return dict(sorted(responses.items()))


def _errors(operation: Operation, path: str, speaker: Dialect) -> dict[str, str]:
    """Statuses with the speaker's error body, and what each means."""
    if operation.method == "POST":
        own = own_statuses(speaker) or {}
        return {str(status.http): (kind.__doc__ or "").rstrip(".") for kind, status in own.items()} | _POST_ERRORS
    possible = {"500"}
    possible |= {"401", "503"} if operation.needs_key else set()
    possible |= {"404"} if _PATH_PARAMETER.search(path) else set()
    return {status: text for status, text in _POST_ERRORS.items() if status in possible}
