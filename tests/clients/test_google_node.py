"""npm's clients for Google's APIs: @google/genai, and Vercel's AI SDK with its two providers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.environments import Node, have_node
from tests.clients.google import GEMINI_MODEL, KEY, MODEL, google_server, without_empty
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import Server

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(not have_node(), reason="there is no node, or no npm")]

GOOGLE = Node(
    "google", ("@google/genai@3.1.0", "ai@7.0.173", "@ai-sdk/google@4.0.121", "@ai-sdk/google-vertex@5.0.141")
)
PACKAGES = {"genai": "@google/genai", "ai google": "@ai-sdk/google", "ai vertex": "@ai-sdk/google-vertex"}


@pytest.fixture(scope="module")
def found(launch: StartServer, golden: Golden) -> Any:
    arguments = (google_server(launch).url, KEY, MODEL, GEMINI_MODEL, json.dumps(golden.texts))
    return GOOGLE.run("google_node.mjs", *arguments, env={"NODE_NO_WARNINGS": "1"})


def add(record: Record, found: Any, route: str, expected: Any) -> None:
    package = next(package for start, package in PACKAGES.items() if route.startswith(start))
    record(package, found["versions"][package], route, found[route], expected)


@pytest.mark.parametrize(
    "route", ["genai developer", "genai developer v1beta", "ai google batch", "ai vertex key", "ai vertex token"]
)
def test_vectors(found: Any, golden: Golden, record: Record, route: str) -> None:
    add(record, found, route, golden.vectors)


@pytest.mark.parametrize("route", ["genai vertex key", "genai vertex token"])
def test_vectors_of_texts_that_are_not_empty(found: Any, golden: Golden, record: Record, route: str) -> None:
    add(record, found, route, without_empty(golden)[1])


@pytest.mark.parametrize("route", ["genai vertex embedContent", "ai google single", "ai vertex embedContent"])
def test_single_vectors(found: Any, golden: Golden, record: Record, route: str) -> None:
    add(record, found, route, golden.vectors[:1])


def test_tokens(found: Any, golden: Golden) -> None:
    assert found["tokens"] == golden.tokens.sum()


def test_task_title_and_size(found: Any, server: Server, record: Record) -> None:
    expected = server.embed("Pets\ncats")
    record("@ai-sdk/google-vertex", found["versions"]["@ai-sdk/google-vertex"], "titled", found["titled"], expected)


@pytest.mark.parametrize("case", ["genai", "ai", "ai vertex"])
def test_unknown_model(found: Any, case: str) -> None:
    status, message = found["errors"][case]
    assert status == 404
    assert "no-such-model" in message
