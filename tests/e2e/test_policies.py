"""What the model's settings decide: long input, token ids, dimensions, empty texts."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tests.conftest import Golden, StartServer
from tests.e2e.process import (
    DIMENSIONS,
    MODEL,
    VERTEX_MODEL,
    Server,
    assert_google_error,
    assert_openai_error,
    cosines,
    openai_vectors,
)

# Sentences of known length, so that the test knows where the server may cut.
_WORDS = ["cat", "dog", "sun", "sea", "tree", "bird", "rain", "snow", "wind", "fire", "stone", "river"]
SENTENCES = [" ".join(random.Random(i).choices(_WORDS, k=9)) + "." for i in range(200)]
LONG = " ".join(SENTENCES)  # 2,000 tokens
WINDOW = 254


@pytest.fixture(scope="module")
def truncating(launch: StartServer) -> Server:
    return launch("--long-input", "truncate", "--token-ids", "native", "--allow-dimensions", "any")


@pytest.fixture(scope="module")
def rejecting(launch: StartServer) -> Server:
    return launch("--long-input", "reject", "--token-ids", "reject", "--strict")


def test_chunked_is_not_truncated(server: Server, truncating: Server) -> None:
    chunked = server.post("/v1/embeddings", {"input": LONG})
    truncated = truncating.post("/v1/embeddings", {"input": LONG})
    assert "x-truncated-inputs" not in chunked.headers
    assert truncated.headers["x-truncated-inputs"] == "1"
    assert cosines(openai_vectors(chunked), openai_vectors(truncated)).max() < 0.9999
    assert chunked.json()["usage"]["prompt_tokens"] == 2002


def test_chunked_is_the_weighted_mean_of_its_pieces(server: Server) -> None:
    """Ten tokens a sentence, 254 a window: cut after every 25th sentence."""
    pieces = [" ".join(SENTENCES[start : start + 25]) for start in range(0, len(SENTENCES), 25)]
    mean = server.embed(pieces).astype(np.float64).mean(axis=0)
    expected = (mean / np.linalg.norm(mean))[np.newaxis].astype(np.float32)
    whole = server.embed(LONG)
    assert cosines(whole, expected).min() >= 0.999999
    assert abs(float(np.linalg.norm(whole)) - 1) < 1e-5


def test_pieces_weigh_by_their_tokens(server: Server) -> None:
    pieces = [" ".join(SENTENCES[:25]), " ".join(SENTENCES[25:32])]
    weighted = np.average(server.embed(pieces).astype(np.float64), axis=0, weights=[250, 70])
    expected = (weighted / np.linalg.norm(weighted))[np.newaxis].astype(np.float32)
    assert cosines(server.embed(" ".join(pieces)), expected).min() >= 0.999999


def test_long_inputs_do_not_change_their_neighbours(server: Server, golden: Golden) -> None:
    vectors = server.embed([golden.texts[0], LONG, golden.texts[1], LONG, golden.texts[2]])
    assert np.abs(vectors[[0, 2, 4]] - golden.vectors[:3]).max() <= 1e-4
    assert cosines(vectors[[1]], vectors[[3]]).min() >= 0.999999


@pytest.mark.parametrize("words", [WINDOW - 1, WINDOW, WINDOW + 1])
def test_around_the_limit(server: Server, truncating: Server, words: int) -> None:
    text = "cat " * words
    truncated = truncating.post("/v1/embeddings", {"input": text})
    assert ("x-truncated-inputs" in truncated.headers) == (words > WINDOW)
    if words <= WINDOW:
        assert cosines(server.embed(text), openai_vectors(truncated)).min() >= 0.999999


def test_truncated_is_the_first_window(truncating: Server) -> None:
    assert cosines(truncating.embed("cat " * 1000), truncating.embed("cat " * WINDOW)).min() >= 0.999999


def test_truncations_are_counted(truncating: Server) -> None:
    before = truncating.metric("embedserve_truncations_total")
    reply = truncating.post("/v1/embeddings", {"input": [LONG, "short", LONG]})
    assert reply.headers["x-truncated-inputs"] == "2"
    assert truncating.metric("embedserve_truncations_total") == before + 2


def test_vertex_overrules_the_setting(truncating: Server) -> None:
    body = {"instances": [{"content": LONG}], "parameters": {"autoTruncate": False}}
    assert_google_error(truncating.post(VERTEX_MODEL, body), 400)
    (prediction,) = truncating.predict(LONG)["predictions"]
    assert prediction["embeddings"]["statistics"]["truncated"] is True


def test_rejected_in_openais_words(rejecting: Server) -> None:
    error = assert_openai_error(rejecting.post("/v1/embeddings", {"input": ["short", LONG]}), 400)
    assert error["message"] == (
        "This model's maximum context length is 256 tokens, however you requested 2002 tokens (2002 in your prompt; "
        "0 for the completion). Please reduce your prompt; or completion length."
    )
    rejecting.assert_well()


def test_vertex_may_truncate_where_the_setting_rejects(rejecting: Server) -> None:
    assert_google_error(rejecting.post(VERTEX_MODEL, {"instances": [{"content": LONG}]}), 400)
    assert len(rejecting.predict(LONG, autoTruncate=True)["predictions"]) == 1


def test_one_word_longer_than_any_window(server: Server) -> None:
    for text in ("x" * 100_000, "日" * 5_000, "é😀" * 2_000, "\u200d" * 1_000, "a\u0301" * 3_000):
        assert server.embed(text).shape == (1, DIMENSIONS)


def test_cl100k_ids_are_decoded(server: Server, golden: Golden) -> None:
    assert cosines(server.embed([9906, 11, 1917, 0]), server.embed("Hello, world!")).min() >= 0.999999
    both = server.embed([[9906], [1917]])
    assert cosines(both, server.embed(["Hello", " world"])).min() >= 0.999999


def test_native_ids(truncating: Server) -> None:
    """[CLS] hello world [SEP], with and without the special tokens."""
    expected = truncating.embed("hello world")
    assert cosines(truncating.embed([7592, 2088]), expected).min() >= 0.999999
    assert cosines(truncating.embed([[101, 7592, 2088, 102]]), expected).min() >= 0.999999


@pytest.mark.parametrize("ids", [[-1], [30522], [10**15], [[7592], [30522]]])
def test_native_ids_out_of_range(truncating: Server, ids: object) -> None:
    assert_openai_error(truncating.post("/v1/embeddings", {"input": ids}), 400)
    truncating.assert_well()


def test_native_ids_longer_than_the_model(truncating: Server) -> None:
    reply = truncating.post("/v1/embeddings", {"input": [7592] * 1000})
    assert reply.headers["x-truncated-inputs"] == "1"


@pytest.mark.parametrize("ids", [[9906], [[9906], [1917]]])
def test_ids_refused(rejecting: Server, ids: object) -> None:
    assert_openai_error(rejecting.post("/v1/embeddings", {"input": ids}), 400)


@pytest.mark.parametrize("size", [1, 2, 100, 256, 383, 384])
def test_any_dimensions_are_the_renormalised_prefix(truncating: Server, size: int) -> None:
    whole = truncating.embed("a cat")
    short = truncating.embed("a cat", dimensions=size)
    assert short.shape == (1, size)
    assert abs(float(np.linalg.norm(short)) - 1) < 1e-5
    assert cosines(short, whole[:, :size]).min() >= 0.999999
    base64 = truncating.embed("a cat", dimensions=size, encoding_format="base64")
    assert np.abs(base64 - short).max() <= 1e-6


@pytest.mark.parametrize("size", [0, -1, 385, 10**9])
def test_any_dimensions_within_the_models_own(truncating: Server, size: int) -> None:
    assert_openai_error(truncating.post("/v1/embeddings", {"input": "a", "dimensions": size}), 400)


@pytest.mark.parametrize("value", ["", " ", ["a", ""], ["\n\t", "a"]])
def test_strict_refuses_empty_texts(rejecting: Server, value: object) -> None:
    assert_openai_error(rejecting.post("/v1/embeddings", {"input": value}), 400)
    rejecting.assert_well()


def test_strict_on_vertex(rejecting: Server) -> None:
    assert_google_error(rejecting.post(VERTEX_MODEL, {"instances": [{"content": ""}]}), 400)


def test_served_name_and_aliases(start_server: StartServer) -> None:
    server = start_server("--served-model-name", "org/mine", "--model-aliases", "text-embedding-3-small,ada 002/é")
    for name in ("org/mine", "text-embedding-3-small", "ada 002/é", f"sentence-transformers/{MODEL}", None):
        reply = server.post("/v1/embeddings", {"model": name, "input": "a"})
        assert reply.status_code == 200, reply.text
        assert reply.json()["model"] == "org/mine"
    assert [one["id"] for one in server.http.get("/v1/models").json()["data"]] == ["org/mine"]
    assert server.http.get("/v1/models/org/mine").status_code == 200
    assert server.http.get("/v1/models/ada%20002%2F%C3%A9").status_code == 200
    assert_openai_error(server.post("/v1/embeddings", {"model": MODEL, "input": "a"}), 404)
    assert server.metric("embedserve_requests_total", model="org/mine", status="200") >= 5
