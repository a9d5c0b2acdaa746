"""google-genai: the developer API, Vertex with a token, Vertex with a key. And its predecessor, google-generativeai."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.clients.environments import Python
from tests.clients.google import GEMINI_MODEL, KEY, MODEL, google_server, without_empty
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL as OWN_NAME
from tests.e2e.process import Server

pytestmark = pytest.mark.heavy

GENAI = Python("google-genai", ("google-genai==3.4.0",))
GENERATIVEAI = Python("google-generativeai", ("google-generativeai==0.8.6",))


@pytest.fixture(scope="module")
def served(launch: StartServer) -> Server:
    return google_server(launch)


@pytest.fixture(scope="module")
def genai(served: Server, golden: Golden) -> Any:
    texts, _ = without_empty(golden)
    return GENAI.run("google_genai_client.py", served.url, KEY, MODEL, GEMINI_MODEL, texts)


@pytest.fixture(scope="module")
def generativeai(served: Server, golden: Golden) -> Any:
    texts, _ = without_empty(golden)
    return GENERATIVEAI.run("google_generativeai_client.py", served.url, KEY, MODEL, texts)


@pytest.mark.parametrize(
    "route",
    [
        "developer",
        "developer v1beta",
        "developer async",
        "vertex token",
        "vertex token v1",
        "vertex key",
        "vertex batchEmbedContents",
    ],
)
def test_vectors(genai: Any, golden: Golden, record: Record, route: str) -> None:
    record("google-genai", genai["version"], route, genai[route], without_empty(golden)[1])


def test_embed_content_on_vertex(genai: Any, golden: Golden, record: Record) -> None:
    expected = np.concatenate([golden.vectors[:2]] * 2)
    record("google-genai", genai["version"], "vertex embedContent", genai["vertex embedContent"], expected)


def test_statistics(genai: Any, golden: Golden) -> None:
    assert genai["statistics"] == [[count, False] for count in golden.tokens[:2]]
    assert genai["truncated"] == [True, 1002]


def test_task_title_and_size(genai: Any, server: Server, record: Record) -> None:
    expected = np.repeat(server.embed("Pets\ncats"), 5, axis=0)
    record("google-genai", genai["version"], "task, title, size", genai["titled"], expected)


def test_models(genai: Any) -> None:
    assert genai["listed"] == [f"models/{OWN_NAME}"]
    assert genai["described"] == f"models/{OWN_NAME}"
    assert genai["publisher model"] == f"publishers/google/models/{MODEL}"


@pytest.mark.parametrize(
    ("case", "code", "status", "words"),
    [
        ("unknown", 404, "NOT_FOUND", "models/no-such-model is not found"),
        ("unknown on vertex", 404, "NOT_FOUND", "/publishers/google/models/no-such-model` was not found"),
        ("too many", 400, "INVALID_ARGUMENT", "at most 100 requests can be in one batch"),
        ("too many on vertex", 400, "INVALID_ARGUMENT", "250 instance(s) is allowed per prediction. Actual: 251"),
        ("dimensions", 400, "INVALID_ARGUMENT", "outputDimensionality 100 is not supported"),
        ("key", 401, "UNAUTHENTICATED", "API key not valid"),
    ],
)
def test_errors(genai: Any, case: str, code: int, status: str, words: str) -> None:
    error = genai["errors"][case]
    assert (error["code"], error["status"]) == (code, status)
    assert words in error["message"]


def test_generativeai(generativeai: Any, golden: Golden, server: Server, record: Record) -> None:
    expected = without_empty(golden)[1]
    for route, wanted in {
        "batch": expected,
        "single": expected[:3],
        "titled": server.embed("Pets\ncats"),
        "query": server.embed(["cats", "dogs"]),
    }.items():
        record("google-generativeai", generativeai["version"], route, generativeai[route], wanted)
    assert generativeai["listed"] == [f"models/{OWN_NAME}"]
    assert "models/no-such-model is not found" in generativeai["unknown"]
