"""Clients of text-embeddings-inference: huggingface_hub's InferenceClient, which posts to "/", and tei-client."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.clients.environments import Python
from tests.clients.matrix import Record
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import MODEL, Server, cosines

pytestmark = pytest.mark.heavy

KEY = "hf_e2e0123456789abcdef"
CLIENT = Python("huggingface", ("huggingface_hub==2.4.0", "numpy==2.4.6", "tei-client==0.2.4"))


@pytest.fixture(scope="module")
def guarded(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """A server with a key, and a model with prompts."""
    bundle = make_bundle(prompts={"query": "query: ", "passage": "passage: "})
    return launch(model=bundle, env={"EMBEDSERVE_API_KEYS": KEY})


@pytest.fixture(scope="module")
def found(guarded: Server, golden: Golden) -> Any:
    return CLIENT.run("huggingface_inference.py", guarded.url, KEY, json.dumps(golden.texts))


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("many", "/"),
        ("options", "/, all options"),
        ("async", "/, async"),
        ("path", "/embed"),
    ],
)
def test_feature_extraction(found: Any, golden: Golden, record: Record, name: str, route: str) -> None:
    record("huggingface_hub", found["version"], route, found[name], golden.vectors)


def test_one_text(found: Any, golden: Golden, record: Record) -> None:
    record("huggingface_hub", found["version"], "/, one text", found["one"], golden.vectors[:1])


def test_sentence_similarity(found: Any, golden: Golden) -> None:
    expected = cosines(golden.vectors[1:], golden.vectors[:1])
    assert np.abs(np.array(found["similarity"]) - expected).max() <= 1e-4


def test_refusals(found: Any) -> None:
    too_long, unknown = found["too long"], found["unknown prompt"]
    assert (too_long["status"], too_long["error_type"]) == (413, "Validation")
    assert (unknown["status"], unknown["error_type"]) == (422, "Validation")
    assert "Available prompts" in unknown["error"]


def test_tei_client(found: Any, golden: Golden, record: Record) -> None:
    tei = found["tei"]
    for name, route in (("embed", "/embed"), ("async", "/embed, async")):
        record("tei-client", tei["version"], route, tei[name], golden.vectors)
    record("tei-client", tei["version"], "/tokenize, /embed", tei["ids"], golden.vectors[:1])
    assert tei["health"] is True
    assert tei["model_id"] == f"sentence-transformers/{MODEL}"
    assert (tei["pooling"], tei["max_input_length"]) == ("mean", 256)
    assert tei["prompt_names"] == ["query", "passage"]
    assert tei["tokens"] == golden.tokens[0]
    assert tei["decode"][0]
