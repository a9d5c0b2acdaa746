"""The `cohere` package: ClientV2 on /v2/embed, Client on /v1/embed."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest

from tests.clients.environments import Python
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL, Server

pytestmark = pytest.mark.heavy

KEY = "co-e2e-0123456789abcdef"
CLIENT = Python("cohere", ("cohere==7.3.1",))


@pytest.fixture(scope="module")
def guarded(launch: StartServer) -> Server:
    """A server with a key."""
    return launch(env={"EMBEDSERVE_API_KEYS": KEY})


@pytest.fixture(scope="module")
def found(guarded: Server, golden: Golden) -> Any:
    return CLIENT.run("cohere_embed.py", guarded.url, KEY, MODEL, json.dumps(golden.texts))


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("inputs", "/v2/embed, inputs"),
        ("async", "/v2/embed, async"),
        ("older", "/v1/embed"),
        ("older typed", "/v1/embed, embedding_types"),
    ],
)
def test_vectors(found: Any, golden: Golden, record: Record, name: str, route: str) -> None:
    record("cohere", found["version"], route, found[name], golden.vectors)


def test_all_types(found: Any, golden: Golden, record: Record) -> None:
    every = found["all"]
    record("cohere", found["version"], "/v2/embed", every["float"], golden.vectors)
    decoded = [np.frombuffer(base64.b64decode(row), "<f4") for row in every["base64"]]
    record("cohere", found["version"], "/v2/embed, base64", decoded, golden.vectors)
    bits = np.unpackbits(np.array(every["ubinary"], np.uint8), axis=1)
    assert np.array_equal(bits, np.array(every["float"]) > 0)
    assert np.array_equal(np.array(every["binary"]), np.array(every["ubinary"]) - 128)
    assert np.array_equal(np.array(every["int8"]), np.array(every["uint8"]) - 128)


def test_envelope(found: Any, golden: Golden) -> None:
    assert found["texts"] == golden.texts
    assert found["api_version"] == "2"
    assert found["input_tokens"] == golden.tokens.sum()
    assert found["response_type"] == "embeddings_by_type"


def test_queries_and_cut_texts(found: Any, golden: Golden, guarded: Server, record: Record) -> None:
    record("cohere", found["version"], "/v2/embed, search_query", found["query"], golden.vectors[:1])
    reply = guarded.post("/v1/embeddings", {"input": "three four"}, authorization=f"Bearer {KEY}")
    expected = np.array([reply.json()["data"][0]["embedding"]], np.float32)
    record("cohere", found["version"], "/v2/embed, max_tokens", found["cut"], expected)


def test_more_than_one_request_of_the_older_client(found: Any, golden: Golden, record: Record) -> None:
    expected = golden.vectors[[i % len(golden.texts) for i in range(200)]]
    record("cohere", found["version"], "/v1/embed, 200 texts", found["older many"], expected)


@pytest.mark.parametrize(
    ("name", "kind", "status", "message"),
    [
        ("too many", "BadRequestError", 400, "total number of texts must be at most 96 - received 97"),
        ("image", "BadRequestError", 400, "this server embeds texts, not images"),
        ("unknown model", "NotFoundError", 404, "model 'embed-v9' not found"),
        ("wrong key", "UnauthorizedError", 401, "invalid api token"),
        ("too long", "BadRequestError", 400, "too many tokens"),
    ],
)
def test_refusals_are_the_clients_own_errors(found: Any, name: str, kind: str, status: int, message: str) -> None:
    refused = found[name]
    assert (refused["kind"], refused["status"]) == (kind, status)
    assert message in refused["message"]
