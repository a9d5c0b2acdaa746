"""The Gemini Developer API, as its clients and REST users send it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.api.google import TASKS
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import DIMENSIONS, MODEL, Server, Vectors, assert_google_error, cosines

MODELS = [f"/{version}/models/{MODEL}" for version in ("v1beta", "v1")]
EMBED, BATCH = f"{MODELS[0]}:embedContent", f"{MODELS[0]}:batchEmbedContents"
CATS = {"content": {"parts": [{"text": "cats"}]}}
LONG = {"content": {"parts": [{"text": "word " * 1000}]}}


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have prompts and a shorter dimension."""
    prompts = {"query": "query: ", "document": "title: {title} | text: "}
    return launch("--long-input", "truncate", model=make_bundle(prompts=prompts, matryoshka_dimensions=[64]))


@pytest.fixture(scope="module")
def small(launch: StartServer) -> Server:
    return launch("--max-request-tokens", "1000", "--max-chunks", "3")


def embed(server: Server, body: Any, path: str = EMBED) -> Vectors:
    reply = server.post(path, body)
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"embedding", "usageMetadata"}
    assert set(reply.json()["embedding"]) == {"values"}
    return np.asarray([reply.json()["embedding"]["values"]], dtype=np.float32)


def batch(server: Server, requests: Any, path: str = BATCH) -> list[Any]:
    reply = server.post(path, {"requests": requests})
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"embeddings", "usageMetadata"}
    return [one["values"] for one in reply.json()["embeddings"]]


def refuse(server: Server, path: str, body: Any, status: int = 400) -> str:
    names = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}
    message: str = assert_google_error(server.post(path, body), status, names[status])["message"]
    return message


@pytest.mark.parametrize("model", MODELS)
def test_embed_content(server: Server, golden: Golden, model: str) -> None:
    body = {"model": f"models/{MODEL}", "content": {"parts": [{"text": golden.texts[3]}], "role": "user"}}
    found = embed(server, body, f"{model}:embedContent?key=any&%24alt=json%3Benum-encoding%3Dint")
    assert cosines(found, golden.vectors[3:4]).min() >= 0.99999


@pytest.mark.parametrize("model", MODELS)
def test_batch_embed_contents(server: Server, golden: Golden, model: str) -> None:
    requests = [{"model": f"models/{MODEL}", "content": {"parts": [{"text": text}]}} for text in golden.texts]
    found = batch(server, requests, f"{model}:batchEmbedContents")
    assert cosines(np.asarray(found, dtype=np.float32), golden.vectors).min() >= 0.99999


def test_tokens_are_counted(server: Server, golden: Golden) -> None:
    requests = [{"content": {"parts": [{"text": text}]}} for text in golden.texts]
    body = server.post(BATCH, {"requests": requests}).json()
    assert body["usageMetadata"] == {"promptTokenCount": golden.tokens.sum()}


def test_requests_of_several_kinds_are_one_in_the_log(prompted: Server, golden: Golden) -> None:
    requests: list[dict[str, Any]] = [{"content": {"parts": [{"text": text}]}} for text in golden.texts[:4]]
    requests[2]["outputDimensionality"] = 64
    reply = prompted.post(BATCH, {"requests": requests})
    assert [len(one["values"]) for one in reply.json()["embeddings"]] == [DIMENSIONS, DIMENSIONS, 64, DIMENSIONS]
    (line,) = prompted.access_lines(reply.headers["x-request-id"])
    assert (line["inputs"], line["tokens"]) == (4, golden.tokens[:4].sum())


@pytest.mark.parametrize("name", [f"sentence-transformers%2F{MODEL}", f"sentence-transformers/{MODEL}", f"{MODEL}@001"])
def test_names(server: Server, golden: Golden, name: str) -> None:
    body = {"content": {"parts": [{"text": golden.texts[0]}]}}
    assert cosines(embed(server, body, f"/v1beta/models/{name}:embedContent"), golden.vectors[:1]).min() >= 0.99999


@pytest.mark.parametrize("model", [None, "", MODEL, f"models/{MODEL}", f"models/sentence-transformers/{MODEL}"])
def test_names_in_the_body(server: Server, model: str | None) -> None:
    assert embed(server, CATS | {"model": model}).shape == (1, DIMENSIONS)
    assert len(batch(server, [CATS, CATS | {"model": model}])) == 2


@pytest.mark.parametrize(
    "fields",
    [
        {"taskType": "RETRIEVAL_DOCUMENT", "title": "Pets", "outputDimensionality": 64},
        {"task_type": "RETRIEVAL_DOCUMENT", "title": "Pets", "output_dimensionality": 64.0},
        {"taskType": 2, "title": "Pets", "outputDimensionality": 64.0, "new": {}},
    ],
)
def test_task_title_and_size(prompted: Server, fields: dict[str, Any]) -> None:
    expected = prompted.embed("title: Pets | text: cats")[:, :64]
    found = np.asarray([embed(prompted, CATS | fields)[0], *batch(prompted, [CATS | fields] * 2)], dtype=np.float32)
    assert cosines(found, np.repeat(expected, 3, axis=0)).min() > 0.999999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


@pytest.mark.parametrize("number", range(1, 9))
def test_numbers_of_task_types(prompted: Server, number: int) -> None:
    by_number, by_name = (embed(prompted, CATS | {"taskType": task}) for task in (number, TASKS[number - 1]))
    assert np.array_equal(by_number, by_name)


@pytest.mark.parametrize("task", [0, "", "TASK_TYPE_UNSPECIFIED", None])
def test_no_task_type(server: Server, task: Any) -> None:
    assert cosines(embed(server, CATS | {"taskType": task}), server.embed("cats")).min() > 0.999999


def test_requests_of_a_batch_may_differ(prompted: Server) -> None:
    query = {"taskType": "RETRIEVAL_QUERY"}
    sizes = [None, 64, DIMENSIONS, 64]
    found = batch(prompted, [CATS | query | {"outputDimensionality": size} for size in sizes])
    assert [len(one) for one in found] == [DIMENSIONS, 64, DIMENSIONS, 64]
    short = np.asarray([found[1], found[3]], dtype=np.float32)
    expected = prompted.embed(["query: cats"] * 2)[:, :64]
    assert cosines(short, expected).min() > 0.999999


@pytest.mark.parametrize("path", [BATCH, f"/v1/publishers/google/models/{MODEL}:batchEmbedContents"])
def test_requests_of_several_kinds_are_one_to_the_limits(small: Server, path: str) -> None:
    """Otherwise a batch may be as many times too large as it has kinds."""
    for words, count, why in ((400, 2, "more than 3 chunks"), (200, 5, "max 1000 tokens")):
        alike = [{"content": {"parts": [{"text": "word " * words}]}}] * count
        kinds = [
            one | ({"taskType": "CLUSTERING"}, {"embedContentConfig": {"outputDimensionality": DIMENSIONS}})[i % 2]
            for i, one in enumerate(alike)
        ]
        found = refuse(small, path, {"requests": kinds})
        assert why in found
        assert found == refuse(small, path, {"requests": alike})
        assert small.post(path, {"requests": kinds[:-1]}).status_code == 200


def test_cut_texts_are_told_in_a_header(prompted: Server, server: Server) -> None:
    assert prompted.post(BATCH, {"requests": [LONG, CATS, LONG]}).headers["x-truncated-inputs"] == "2"
    assert "x-truncated-inputs" not in prompted.post(EMBED, CATS).headers
    assert server.post(EMBED, LONG | {"autoTruncate": True}).headers["x-truncated-inputs"] == "1"
    assert "x-truncated-inputs" not in server.post(EMBED, LONG).headers


def test_without_auto_truncate_long_texts_are_refused(server: Server) -> None:
    assert "1002" in refuse(server, BATCH, {"requests": [CATS, LONG | {"autoTruncate": False}]})


def test_most_requests(server: Server) -> None:
    assert len(batch(server, [CATS] * 100)) == 100
    message = refuse(server, BATCH, {"requests": [CATS] * 101})
    assert message == "* BatchEmbedContentsRequest.requests: at most 100 requests can be in one batch"


def test_models_are_listed(server: Server) -> None:
    described = {
        "name": f"models/{MODEL}",
        "version": "001",
        "displayName": MODEL,
        "inputTokenLimit": 256,
        "supportedGenerationMethods": ["embedContent"],
    }
    assert server.http.get("/v1beta/models?pageSize=50").json() == {"models": [described]}
    assert server.http.get(f"/v1beta/models/{MODEL}").json() == described


def test_unknown_models(server: Server) -> None:
    unknown = "/v1beta/models/gemini-embedding-999"
    words = "models/gemini-embedding-999 is not found"
    assert words in refuse(server, f"{unknown}:embedContent", CATS, 404)
    assert words in refuse(server, f"{unknown}:batchEmbedContents", {"requests": [CATS]}, 404)
    assert words in assert_google_error(server.http.get(unknown), 404, "NOT_FOUND")["message"]
    assert words in refuse(server, EMBED, CATS | {"model": "models/gemini-embedding-999"}, 404)


@pytest.mark.parametrize("path", ["/v1beta/nothing", "/v1beta/", "/v1beta/tunedModels/x:embedContent"])
def test_unknown_paths(server: Server, path: str) -> None:
    refuse(server, path, CATS, 404)


@pytest.mark.parametrize("path", [EMBED, BATCH])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_wrong_method(server: Server, path: str, method: str) -> None:
    assert_google_error(server.http.request(method, path), 405, "UNIMPLEMENTED")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        b"",
        b"\xff",
        {"content": {"parts": []}},
        {"content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}},
        {"content": "text"},
        CATS | {"taskType": "SINGING"},
        CATS | {"taskType": 9},
        CATS | {"outputDimensionality": 100},
        CATS | {"outputDimensionality": "wide"},
        CATS | {"model": 3},
    ],
    ids=lambda body: repr(body)[:60],
)
def test_bad_bodies(server: Server, body: Any) -> None:
    refuse(server, EMBED, body)
    refuse(server, BATCH, {"requests": [CATS, body]} if isinstance(body, dict) else body)
    server.assert_well()


@pytest.mark.parametrize("body", [{"requests": []}, {"requests": None}, {"requests": {}}, {"requests": [None]}, CATS])
def test_bad_batches(server: Server, body: Any) -> None:
    refuse(server, BATCH, body)


def test_keys(launch: StartServer) -> None:
    guarded = launch(env={"EMBEDSERVE_API_KEYS": "gemini-key-0123456789"})
    assert guarded.post(EMBED, CATS, x_goog_api_key="gemini-key-0123456789").status_code == 200
    assert guarded.post(f"{EMBED}?key=gemini-key-0123456789", CATS).status_code == 200
    missing = assert_google_error(guarded.post(EMBED, CATS), 401, "UNAUTHENTICATED")
    wrong = assert_google_error(guarded.post(EMBED, CATS, x_goog_api_key="wrong"), 401, "UNAUTHENTICATED")
    assert [one["details"][0]["reason"] for one in (missing, wrong)] == ["CREDENTIALS_MISSING", "API_KEY_INVALID"]
    assert_google_error(guarded.http.get("/v1beta/models"), 401, "UNAUTHENTICATED")
