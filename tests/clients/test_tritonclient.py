"""NVIDIA's `tritonclient` over HTTP: the Open Inference Protocol, in binary (its default) and in JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.clients.environments import Python
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import DIMENSIONS, MODEL

pytestmark = pytest.mark.heavy

TRITON = Python("tritonclient", ("tritonclient[http]==2.73.0",))
KEY = "sk-e2e-0123456789abcdef"
ROUTES = 10


@pytest.fixture(scope="module")
def found(launch: StartServer, golden: Golden) -> Any:
    """What the client saw of a server that wants a key."""
    server = launch(env={"EMBEDSERVE_API_KEYS": KEY})
    return TRITON.run("tritonclient_infer.py", server.url, MODEL, KEY, json.dumps(golden.texts))


def test_vectors(found: Any, golden: Golden, record: Record) -> None:
    assert len(found["vectors"]) == ROUTES
    for route, vectors in found["vectors"].items():
        record("tritonclient", found["version"], route, vectors, golden.vectors)


def test_reply(found: Any, golden: Golden) -> None:
    assert found["id"] == "42"
    size = 4 * DIMENSIONS * len(golden.texts)
    output = {
        "name": "embedding",
        "datatype": "FP32",
        "shape": [len(golden.texts), DIMENSIONS],
        "parameters": {"binary_data_size": size},
    }
    assert found["response"] == {"model_name": MODEL, "model_version": "1", "outputs": [output]}


def test_health_needs_no_key(found: Any) -> None:
    assert found["live"] is True
    assert found["ready"] is True
    assert found["model_ready"] == [True, True, False, False]


def test_metadata(found: Any) -> None:
    assert found["server"]["name"] == "embedserve"
    assert "binary_tensor_data" in found["server"]["extensions"]
    assert found["model"]["name"] == MODEL
    assert found["model"]["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
    assert found["model"]["outputs"] == [{"name": "embedding", "datatype": "FP32", "shape": [-1, DIMENSIONS]}]


@pytest.mark.parametrize(
    ("case", "status", "words"),
    [
        ("model", "404", "Model with name no-such-model does not exist."),
        ("version", "404", "version 2 does not exist"),
        ("datatype", "400", "inputs.0.datatype"),
        ("output", "400", "outputs.0.name"),
        ("two inputs", "400", "inputs"),
        ("key", "401", "key"),
        ("metadata", "404", "Model with name no-such-model does not exist."),
    ],
)
def test_refusals_reach_the_caller(found: Any, case: str, status: str, words: str) -> None:
    got, message = found["refusals"][case]
    assert got == status
    assert words in message


def test_the_model_repository(launch: StartServer) -> None:
    server = launch(env={"EMBEDSERVE_API_KEYS": KEY, "EMBEDSERVE_ADMIN_KEYS": "admin-0123456789"})
    managed = TRITON.run("tritonclient_repository.py", server.url, "admin-0123456789", MODEL, KEY)
    assert managed["start"] == managed["end"] == {MODEL: "READY"}
    assert managed["ready"] == [True, False, True]
    assert {case: status for case, (status, _) in managed["refusals"].items()} == {
        "key": "401",
        "name": "404",
        "config": "400",
        "unload": "404",
    }
