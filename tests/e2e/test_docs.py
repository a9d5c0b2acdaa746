"""The documentation page and the document behind it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urljoin

import pytest

from tests.e2e.process import Server


def test_the_page_loads_nothing_from_elsewhere(server: Server) -> None:
    page = server.http.get("/docs")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    linked = re.findall(r"""(?:src|href)\s*=\s*["']([^"']+)""", page.text)
    assert linked
    for address in linked:
        assert not re.match(r"(https?:)?//", address), address
        asset = server.http.get(urljoin("/docs", address))
        assert asset.status_code == 200, address
        assert asset.content
    assert not re.findall(r"""(?:url\(|import\s|fetch\()\s*["']?https?://""", page.text)
    assert "url: 'openapi.json'" in page.text


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    reply = server.http.get("/openapi.json")
    assert reply.headers["content-type"].startswith("application/json")
    found: dict[str, Any] = reply.json()
    return found


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in references(inner)]
    return []


def test_it_is_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    assert document.keys() <= {"openapi", "info", "paths", "components", "servers", "tags", "security"}
    assert document["info"]["title"]
    assert document["info"]["version"]


def test_every_reference_resolves(document: dict[str, Any]) -> None:
    found = references(document)
    assert found
    for reference in found:
        assert reference.startswith("#/")
        here: Any = document
        for part in reference[2:].split("/"):
            here = here[part.replace("~1", "/").replace("~0", "~")]


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    ids = []
    for path, item in document["paths"].items():
        assert path.startswith("/")
        for method, operation in item.items():
            assert method in {"get", "post"}
            ids.append(operation["operationId"])
            assert operation["summary"]
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert "200" in operation["responses"]
            # FastAPI's own 422 never leaves this server; TEI's protocol has one of its own.
            assert "422" not in operation["responses"] or operation["tags"] == ["tei"]
            assert all(response["description"] for response in operation["responses"].values())
            assert ("requestBody" in operation) == (method == "post")
    assert len(ids) == len(set(ids))


def test_the_routes_of_the_readme_are_there(document: dict[str, Any]) -> None:
    prefix = "/v1/projects/{project}/locations/{location}"
    assert document["paths"].keys() >= {
        "/v1/embeddings",
        "/v1/models",
        "/v1/models/{model}",
        f"{prefix}/publishers/{{publisher}}/models/{{model}}:predict",
        f"{prefix}/endpoints/{{endpoint}}:predict",
        "/livez",
        "/readyz",
        "/metrics",
    }


def test_security_schemes_are_defined(document: dict[str, Any]) -> None:
    defined = set(document["components"]["securitySchemes"])
    used = {
        name
        for item in document["paths"].values()
        for operation in item.values()
        for requirement in operation.get("security", [])
        for name in requirement
    }
    assert used
    assert used <= defined


def test_names_of_schemas_are_for_people(document: dict[str, Any]) -> None:
    """pydantic puts the module before a name that two schemas share."""
    names = document["components"]["schemas"].keys()
    assert not [name for name in names if "__" in name]
    assert names >= {"OpenAIError", "GoogleError", "KServeError", "CohereError", "TeiError", "HealthError"}


def test_a_path_has_one_error_body(document: dict[str, Any]) -> None:
    """That of the first dialect on it: TEI's on "/", where KServe's liveness is a guest."""
    for operation in document["paths"]["/"].values():
        schema = operation["responses"]["500"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": "#/components/schemas/TeiError"}


@pytest.mark.parametrize("path", ["/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready"])
def test_probes_of_a_model_may_not_find_it(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path]["get"]["responses"]
    schemas = {status: one["content"]["application/json"]["schema"] for status, one in responses.items()}
    assert schemas["404"] == schemas["500"] == {"$ref": "#/components/schemas/KServeError"}
    assert schemas["200"] == schemas["503"] == {"$ref": "#/components/schemas/ModelReady"}


def test_binary_tensors_are_described(document: dict[str, Any]) -> None:
    infer = document["paths"]["/v2/models/{model}/infer"]["post"]
    types = {"application/json", "application/octet-stream"}
    assert infer["requestBody"]["content"].keys() == infer["responses"]["200"]["content"].keys() == types
    assert "inference-header-content-length" in {one["name"] for one in infer["parameters"]}
    assert "inference-header-content-length" in infer["responses"]["200"]["headers"]
