"""Cohere's /v2/embed and /v1/embed, as its SDKs and REST users send them."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import DIMENSIONS, MODEL, Server, Vectors, cosines

PATHS = ["/v2/embed", "/v1/embed"]
LONG = "The quick brown fox jumps over the lazy dog. " * 100
PROMPTS = {"query": "query: ", "document": "passage: ", "clustering": "cluster: "}
KEY = "sk-e2e-0123456789abcdef"


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have prompts and shorter dimensions."""
    return launch(model=make_bundle(prompts=PROMPTS, matryoshka_dimensions=[64, 100]))


def post(server: Server, path: str = "/v2/embed", **fields: Any) -> httpx.Response:
    return server.post(path, {"model": MODEL, "input_type": "search_document", **fields})


def embed(server: Server, texts: list[str], **fields: Any) -> Vectors:
    reply = post(server, texts=texts, **fields)
    assert reply.status_code == 200, reply.text
    return np.asarray(reply.json()["embeddings"]["float"], dtype=np.float32)


def refuse(server: Server, body: Any, path: str = "/v2/embed", status: int = 400) -> str:
    """The message of an error in Cohere's shape."""
    reply = server.post(path, body)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert set(reply.json()) == {"message"}
    message: str = reply.json()["message"]
    assert message
    return message


def test_shape_and_vectors(server: Server, golden: Golden) -> None:
    body = post(server, texts=golden.texts, embedding_types=["float"], priority=3).json()
    assert set(body) == {"id", "embeddings", "texts", "meta", "response_type"}
    assert body["response_type"] == "embeddings_by_type"
    assert body["texts"] == golden.texts
    assert body["meta"] == {
        "api_version": {"version": "2"},
        "billed_units": {"input_tokens": int(golden.tokens.sum())},
    }
    assert set(body["embeddings"]) == {"float"}
    assert cosines(np.array(body["embeddings"]["float"]), golden.vectors).min() >= 0.99999


def test_version_1_gives_a_list_unless_types_are_named(server: Server, golden: Golden) -> None:
    plain = post(server, "/v1/embed", texts=golden.texts).json()
    assert plain["response_type"] == "embeddings_floats"
    assert plain["meta"]["api_version"] == {"version": "1"}
    assert cosines(np.array(plain["embeddings"]), golden.vectors).min() >= 0.99999
    typed = post(server, "/v1/embed", texts=golden.texts, embedding_types=["int8"]).json()
    assert typed["response_type"] == "embeddings_by_type"
    assert set(typed["embeddings"]) == {"int8"}


def test_all_types_at_once(server: Server, golden: Golden) -> None:
    types = ["float", "int8", "uint8", "binary", "ubinary", "base64"]
    found = post(server, texts=golden.texts, embedding_types=[*types, "int8"]).json()["embeddings"]
    assert set(found) == set(types)
    floats = np.array(found["float"], dtype=np.float32)
    assert cosines(floats, golden.vectors).min() >= 0.99999
    decoded = np.array([np.frombuffer(base64.b64decode(row), "<f4") for row in found["base64"]])
    assert np.array_equal(decoded, floats)
    int8, uint8 = np.array(found["int8"]), np.array(found["uint8"])
    assert np.array_equal(int8 + 128, uint8)
    assert cosines(int8.astype(np.float32), golden.vectors).min() >= 0.999
    ubinary = np.array(found["ubinary"])
    assert np.array_equal(np.unpackbits(ubinary.astype(np.uint8), axis=1), floats > 0)
    assert np.array_equal(np.array(found["binary"]), ubinary - 128)


def test_inputs_with_text_parts(server: Server, golden: Golden) -> None:
    inputs = [{"content": [{"type": "text", "text": text}]} for text in golden.texts]
    body = post(server, inputs=inputs).json()
    assert body["texts"] == golden.texts
    assert cosines(np.array(body["embeddings"]["float"]), golden.vectors).min() >= 0.99999
    parts = {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
    assert post(server, inputs=[parts]).json()["texts"] == ["a\nb"]


@pytest.mark.parametrize("path", PATHS)
def test_nulls_mean_the_default(server: Server, golden: Golden, path: str) -> None:
    names = ["model", "images", "inputs", "input_type", "embedding_types", "output_dimension", "max_tokens", "truncate"]
    reply = server.post(path, {"texts": golden.texts, **dict.fromkeys(names), "priority": None})
    found = reply.json()["embeddings"]
    rows = found["float"] if path == "/v2/embed" else found
    assert cosines(np.array(rows), golden.vectors).min() >= 0.99999


@pytest.mark.parametrize(
    ("input_type", "prompt"),
    [
        ("search_query", "query: "),
        ("search_document", "passage: "),
        ("clustering", "cluster: "),
        ("classification", ""),
        (None, ""),
    ],
)
def test_input_types_choose_the_prompt(prompted: Server, input_type: str | None, prompt: str) -> None:
    texts = ["cats", "dogs"]
    expected = prompted.embed([prompt + text for text in texts])
    assert cosines(embed(prompted, texts, input_type=input_type), expected).min() >= 0.99999


def test_output_dimension(prompted: Server, golden: Golden) -> None:
    found = embed(prompted, golden.texts, output_dimension=64, input_type="classification")
    assert found.shape == (len(golden.texts), 64)
    assert cosines(found, golden.vectors[:, :64]).min() >= 0.99999
    message = refuse(prompted, {"texts": ["a"], "output_dimension": 65})
    assert message == "invalid request: output_dimension must be one of 64, 100, 384 - received 65"
    assert "multiple of 8" in refuse(
        prompted, {"texts": ["a"], "output_dimension": 100, "embedding_types": ["float", "binary"]}
    )


def test_truncate(server: Server) -> None:
    beginning, end = "Cats purr. ", "Rockets fly to Mars."
    text = beginning + LONG + end
    replies = [post(server, texts=[text], truncate=word) for word in ("END", "START", None)]
    assert [reply.headers.get("x-truncated-inputs") for reply in replies] == ["1", "1", None]
    last, first, whole = (np.array(reply.json()["embeddings"]["float"]) for reply in replies)
    assert cosines(last, embed(server, [beginning + LONG], truncate="END")).min() >= 0.99999
    assert cosines(first, embed(server, [LONG + end], truncate="START")).min() >= 0.99999
    assert max(cosines(last, first).max(), cosines(last, whole).max(), cosines(first, whole).max()) < 0.9999
    message = refuse(server, {"texts": ["a", text], "truncate": "NONE"})
    assert message.startswith("too many tokens: ")


def test_max_tokens_cuts(server: Server) -> None:
    reply = post(server, texts=["one two three four five six"], max_tokens=5)
    assert reply.headers["x-truncated-inputs"] == "1"
    found = np.array(reply.json()["embeddings"]["float"])
    assert cosines(found, server.embed("one two three")).min() >= 0.99999
    left = embed(server, ["one two three four five six"], max_tokens=5, truncate="START")
    assert cosines(left, server.embed("four five six")).min() >= 0.99999
    refuse(server, {"texts": ["one two three four five six"], "max_tokens": 5, "truncate": "NONE"})
    refuse(server, {"texts": ["one"], "max_tokens": 2})
    assert embed(server, ["one"], max_tokens=10**6).shape == (1, DIMENSIONS)


def test_empty_texts_are_embedded(server: Server) -> None:
    assert embed(server, ["", "a"]).shape == (2, DIMENSIONS)


def test_as_many_texts_as_cohere_takes(server: Server) -> None:
    assert embed(server, ["a"] * 96).shape == (96, DIMENSIONS)
    text = {"content": [{"type": "text", "text": "a"}]}
    for body in ({"texts": ["a"] * 97}, {"inputs": [text] * 97}):
        message = refuse(server, body)
        assert message == "invalid request: total number of texts must be at most 96 - received 97"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        {"images": ["data:image/png;base64,AAAA"]},
        {"texts": ["a"], "images": ["data:image/png;base64,AAAA"]},
        {"texts": ["a"], "input_type": "image"},
        {"inputs": [{"content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]},
    ],
)
def test_images(server: Server, path: str, body: Any) -> None:
    assert "this server embeds texts, not images" in refuse(server, body, path)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"texts": ["\xff"]}',
        [],
        {},
        {"texts": None},
        {"texts": "a"},
        {"texts": []},
        {"texts": [1]},
        {"texts": [None]},
        {"texts": [["a"]]},
        {"inputs": []},
        {"inputs": ["a"]},
        {"inputs": [{"content": []}]},
        {"inputs": [{"content": "a"}]},
        {"inputs": [{"content": [{"type": "text"}]}]},
        {"inputs": [{"content": [{"type": "audio", "text": "a"}]}]},
        {"texts": ["a"], "inputs": [{"content": [{"type": "text", "text": "a"}]}]},
        {"texts": ["a"], "images": "a"},
        {"texts": ["a"], "input_type": "singing"},
        {"texts": ["a"], "input_type": 1},
        {"texts": ["a"], "embedding_types": "float"},
        {"texts": ["a"], "embedding_types": ["float64"]},
        {"texts": ["a"], "embedding_types": [None]},
        {"texts": ["a"], "output_dimension": 0},
        {"texts": ["a"], "output_dimension": "64"},
        {"texts": ["a"], "output_dimension": 10**30},
        {"texts": ["a"], "max_tokens": 0},
        {"texts": ["a"], "truncate": "MIDDLE"},
        {"texts": ["a"], "truncate": True},
        {"texts": ["a"], "model": 1},
    ],
)
def test_wrong_bodies(server: Server, path: str, body: Any) -> None:
    refuse(server, body, path)
    server.assert_well()


def test_unknown_model(server: Server) -> None:
    message = refuse(server, {"model": "embed-v9", "texts": ["a"]}, status=404)
    assert message.startswith("model 'embed-v9' not found, ")


@pytest.mark.parametrize("path", ["/v2/classify", "/v2/chat", "/v2/embed/", "/v1/tokenize"])
def test_other_routes_of_coheres(server: Server, path: str) -> None:
    refuse(server, {"model": MODEL}, path, status=404)


def test_keys(start_server: StartServer) -> None:
    guarded = start_server(env={"EMBEDSERVE_API_KEYS": KEY})
    assert refuse(guarded, {"texts": ["a"]}, status=401) == "no api key supplied"
    wrong = guarded.post("/v2/embed", {"texts": ["a"]}, authorization="Bearer nope-nope-nope")
    assert (wrong.status_code, wrong.json()) == (401, {"message": "invalid api token"})
    assert guarded.post("/v2/embed", {"texts": ["a"]}, authorization=f"Bearer {KEY}").status_code == 200


def test_requests_are_counted(server: Server) -> None:
    before = server.metric("embedserve_inputs_total", route="/v2/embed")
    embed(server, ["a", "b", "c"])
    assert server.metric("embedserve_inputs_total", route="/v2/embed") == before + 3
