"""The other paths to OpenAI's routes, and the headers of their replies."""

from __future__ import annotations

from urllib.parse import quote

import numpy as np
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL, Server, assert_openai_error, openai_vectors

SLASHED = f"sentence-transformers/{MODEL}"
NAMED_IN_THE_BODY = ["/v1/embeddings", "/embeddings", "/openai/v1/embeddings"]
NAMED_IN_THE_PATH = ["/v1/engines/{}/embeddings", "/openai/deployments/{}/embeddings?api-version=2024-10-21"]
MODELS = ["/v1/models", "/models", "/openai/v1/models", "/openai/models"]


@pytest.mark.parametrize("path", NAMED_IN_THE_BODY)
@pytest.mark.parametrize("name", [MODEL, SLASHED])
def test_model_in_the_body(server: Server, golden: Golden, path: str, name: str) -> None:
    reply = server.post(path, {"model": name, "input": golden.texts[:3]})
    assert np.abs(openai_vectors(reply) - golden.vectors[:3]).max() <= 1e-4


@pytest.mark.parametrize("path", NAMED_IN_THE_PATH)
@pytest.mark.parametrize("name", [MODEL, SLASHED, quote(SLASHED, safe="")])
def test_model_in_the_path_outranks_the_body(server: Server, golden: Golden, path: str, name: str) -> None:
    reply = server.post(path.format(name), {"model": "text-embedding-ada-002", "input": golden.texts[:3]})
    assert np.abs(openai_vectors(reply) - golden.vectors[:3]).max() <= 1e-4
    assert reply.json()["model"] == MODEL


@pytest.mark.parametrize("path", NAMED_IN_THE_PATH)
def test_unknown_model_in_the_path(server: Server, path: str) -> None:
    error = assert_openai_error(server.post(path.format("nobody"), {"model": MODEL, "input": "a"}), 404)
    assert error["code"] == "model_not_found"
    assert "`nobody`" in error["message"]


@pytest.mark.parametrize("path", [*NAMED_IN_THE_BODY, *(one.format(MODEL) for one in NAMED_IN_THE_PATH)])
def test_only_post(server: Server, path: str) -> None:
    reply = server.http.get(path)
    assert_openai_error(reply, 405)
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize("path", MODELS)
@pytest.mark.parametrize("name", [MODEL, SLASHED, quote(SLASHED, safe="")])
def test_models(server: Server, path: str, name: str) -> None:
    listed = server.http.get(path).json()["data"]
    assert [one["id"] for one in listed] == [MODEL]
    found = server.http.get(f"{path}/{name}").json()
    assert listed[0].items() <= found.items()


def test_azures_key(launch: StartServer) -> None:
    guarded = launch(env={"EMBEDSERVE_API_KEYS": "azure-key-0123456789"})
    path = f"/openai/deployments/{MODEL}/embeddings?api-version=2024-10-21"
    assert guarded.post(path, {"input": "a"}, api_key="azure-key-0123456789").status_code == 200
    assert_openai_error(guarded.post(path, {"input": "a"}, api_key="azure-key-9876543210"), 401)
    assert_openai_error(guarded.post(path, {"input": "a"}), 401)


def test_headers_of_success(server: Server) -> None:
    headers = server.post("/v1/embeddings", {"input": "a"}).headers
    assert headers["openai-model"] == MODEL
    assert headers["openai-version"] == "2020-10-01"
    assert 0 <= int(headers["openai-processing-ms"]) < 60_000
    assert headers["x-request-id"].startswith("req_")


def test_errors_have_only_the_request_id(server: Server) -> None:
    headers = server.post("/v1/embeddings", {"input": []}).headers
    assert headers["x-request-id"]
    assert not [name for name in headers if name.startswith("openai-")]


def test_a_name_that_headers_cannot_hold(start_server: StartServer) -> None:
    server = start_server("--served-model-name", "嵌入")
    reply = server.post("/v1/embeddings", {"model": "嵌入", "input": "a"})
    assert reply.status_code == 200
    assert reply.headers["openai-model"] == quote("嵌入")
    assert reply.json()["model"] == "嵌入"
