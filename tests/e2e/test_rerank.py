"""/v1/rerank, /v2/rerank, /rerank and /predict on real servers with tiny models, against a reference in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.compile import compile_checkpoint
from tests.conftest import StartServer
from tests.e2e.process import Server, assert_openai_error
from tests.models.reference import sigmoid
from tests.models.scores import IDENTITY, expected_logits, write_cross_encoder

QUERY = "the mill"
DOCUMENTS = ["the river", "abc def ghi", "", "mill mill", "the river and the mill"]
PARAGRAPHS = ["river mill " * 6, "mill mill river " * 4]  # both fit a row, one at a time
LONG = "\n\n".join(PARAGRAPHS)
Logits = NDArray[np.float64]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles of a reranker whose scores are logits, and of a classifier with three labels."""
    root = tmp_path_factory.mktemp("scores")
    for name, labels in (("reranker", 1), ("classifier", 3)):
        source = write_cross_encoder(root / f"tiny-{name}", labels, **IDENTITY)
        compile_checkpoint(str(source), cache_dir=root / "cache", output=root / name, say=print)
    return root


@pytest.fixture(scope="module")
def reranker(launch: StartServer, bundles: Path) -> Server:
    return launch("--max-inputs", "8", "--cache-bytes", "1000000", model=bundles / "reranker")


@pytest.fixture(scope="module")
def classifier(launch: StartServer, bundles: Path) -> Server:
    return launch(model=bundles / "classifier")


@pytest.fixture(scope="module")
def logits(bundles: Path) -> Logits:
    """(documents,) beside the query."""
    return np.array([expected_logits(bundles / "reranker", QUERY, text)[0] for text in DOCUMENTS])


def ok(reply: httpx.Response) -> Any:
    assert reply.status_code == 200, reply.text
    return reply.json()


def assert_ranked(found: Sequence[dict[str, Any]], expected: NDArray[Any], name: str = "relevance_score") -> None:
    """The best first, each with its score."""
    assert [one["index"] for one in found] == np.argsort(-expected)[: len(found)].tolist()
    np.testing.assert_allclose([one[name] for one in found], np.sort(expected)[::-1][: len(found)], atol=1e-4)


# --- Cohere, Jina, Voyage -------------------------------------------------------------------------------------


def test_cohere_2(reranker: Server, logits: Logits) -> None:
    body = ok(reranker.post("/v2/rerank", {"model": "tiny-reranker", "query": QUERY, "documents": DOCUMENTS}))
    assert set(body) == {"id", "results", "meta"}
    assert all(set(one) == {"index", "relevance_score"} for one in body["results"])
    assert_ranked(body["results"], logits)
    assert body["meta"]["api_version"] == {"version": "2"}
    assert body["meta"]["billed_units"] == {"search_units": 1}


@pytest.mark.parametrize("path", ["/v1/rerank", "/openai/v1/rerank", "/rerank"])
def test_one_reply_for_cohere_1_jina_and_vllm(reranker: Server, logits: Logits, path: str) -> None:
    question = {"model": "tiny-reranker", "query": QUERY, "documents": [{"text": text} for text in DOCUMENTS]}
    body = ok(reranker.post(path, {**question, "top_n": 3}))
    assert set(body) == {"id", "model", "results", "usage", "meta"}
    assert_ranked(body["results"], logits)
    assert len(body["results"]) == 3
    assert [one["document"]["text"] for one in body["results"]] == [DOCUMENTS[one["index"]] for one in body["results"]]
    assert body["meta"]["tokens"]["input_tokens"] == body["usage"]["total_tokens"]
    bare = ok(reranker.post(path, {**question, "return_documents": False}))
    assert all(set(one) == {"index", "relevance_score"} for one in bare["results"])


def test_voyage(reranker: Server, logits: Logits) -> None:
    question = {"model": "tiny-reranker", "query": QUERY, "documents": DOCUMENTS, "truncation": True}
    body = ok(reranker.post("/v1/rerank", {**question, "top_k": 2}))
    assert set(body) == {"object", "data", "model", "usage"}
    assert_ranked(body["data"], logits)
    assert all(set(one) == {"index", "relevance_score"} for one in body["data"])
    whole = ok(reranker.post("/v1/rerank", {**question, "top_k": None, "return_documents": True}))
    assert [one["document"] for one in whole["data"]] == [DOCUMENTS[one["index"]] for one in whole["data"]]


def test_usage_counts_the_query_once_for_each_document(reranker: Server) -> None:
    body = ok(reranker.post("/v1/rerank", {"query": "river", "documents": ["mill", "mill river"]}))
    assert body["usage"]["total_tokens"] == (3 + 1 + 1) + (3 + 1 + 2)


def test_rank_fields_are_read_in_their_order(reranker: Server, bundles: Path) -> None:
    documents = [{"title": "river", "body": "mill", "year": 1900}, {"title": "abc", "body": "the mill", "year": 2000}]
    question = {"query": QUERY, "documents": documents, "rank_fields": ["title", "body"]}
    expected = [expected_logits(bundles / "reranker", QUERY, text)[0] for text in ("river\nmill", "abc\nthe mill")]
    assert_ranked(ok(reranker.post("/v1/rerank", question))["results"], np.array(expected))


def test_scores_are_the_authors_unless_raw_scores_says_otherwise(reranker: Server, logits: Logits) -> None:
    question = {"query": QUERY, "documents": DOCUMENTS}
    for raw, expected in ((None, logits), (True, logits), (False, sigmoid(logits))):
        assert_ranked(ok(reranker.post("/v2/rerank", {**question, "raw_scores": raw}))["results"], expected)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank"])
@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"query": ""}, 400),
        ({"query": " "}, 400),
        ({"query": 7}, 400),
        ({"documents": []}, 400),
        ({"documents": ["mill"] * 1001}, 400),
        ({"documents": ["mill", 7]}, 400),
        ({"documents": [{"title": "mill"}]}, 400),
        ({"documents": [{"text": 7}]}, 400),
        ({"documents": "mill"}, 400),
        ({"top_n": 0}, 400),
        ({"model": "unknown"}, 404),
        ({"return_chunks": True}, 400),
        ({"late": True}, 400),
        ({"long_input": "reject", "documents": [LONG]}, 400),
        ({"query": "river " * 30}, 400),
    ],
)
def test_refusals(reranker: Server, path: str, fields: dict[str, Any], status: int) -> None:
    reply = reranker.post(path, {"query": QUERY, "documents": DOCUMENTS, **fields})
    assert reply.status_code == status, reply.text
    body = reply.json()
    assert set(body) == ({"message"} if path == "/v2/rerank" else {"message", "detail"})
    assert all(body.values())
    assert ok(reranker.post(path, {"query": QUERY, "documents": DOCUMENTS}))


def test_a_body_that_is_no_json_and_a_missing_field(reranker: Server) -> None:
    for body in (b"{", {"query": QUERY}, {"documents": DOCUMENTS}):
        assert reranker.post("/v1/rerank", body).status_code == 400


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_vllm_score_keeps_the_order(reranker: Server, logits: Logits, path: str) -> None:
    count = len(DOCUMENTS)
    for text_1 in (QUERY, [QUERY], [QUERY] * count):
        body = ok(reranker.post(path, {"text_1": text_1, "text_2": DOCUMENTS}))
        assert set(body) == {"id", "object", "created", "model", "data", "usage"}
        assert [one["index"] for one in body["data"]] == list(range(count))
        np.testing.assert_allclose([one["score"] for one in body["data"]], logits, atol=1e-4)
    active = ok(reranker.post(path, {"text_1": QUERY, "text_2": DOCUMENTS[0], "use_activation": True}))
    assert active["data"][0]["score"] == pytest.approx(sigmoid(logits)[0], abs=1e-5)
    cut = reranker.post(path, {"text_1": QUERY, "text_2": LONG, "truncate_prompt_tokens": -1})
    assert cut.headers["x-truncated-inputs"] == "1"


@pytest.mark.parametrize(
    "fields",
    [{"text_1": [QUERY, QUERY]}, {"text_1": ""}, {"text_2": []}, {"text_2": [7]}, {"text_2": ["a"] * 9}, {"text_1": 7}],
)
def test_vllm_score_refusals(reranker: Server, fields: dict[str, Any]) -> None:
    error = assert_openai_error(reranker.post("/score", {"text_1": QUERY, "text_2": DOCUMENTS, **fields}), 400)
    assert "detail" not in error
    assert "openai.com" not in error["message"]


def test_many_documents_at_once(reranker: Server, bundles: Path) -> None:
    """So many that they are tokenised beside the event loop."""
    texts = [f"mill {'abcdefgh'[i % 8]} {'abcdefgh'[i // 8 % 8]} {'river ' * (i // 64 + 1)}" for i in range(1000)]
    body = ok(reranker.post("/v2/rerank", {"query": QUERY, "documents": texts}))
    assert sorted(one["index"] for one in body["results"]) == list(range(1000))
    assert body["meta"]["billed_units"]["search_units"] == 10
    for one in (body["results"][0], body["results"][-1]):
        expected = expected_logits(bundles / "reranker", QUERY, texts[one["index"]])[0]
        assert one["relevance_score"] == pytest.approx(expected, abs=1e-4)


# --- long documents -------------------------------------------------------------------------------------------


def test_a_long_document_is_as_good_as_its_best_part(reranker: Server, bundles: Path) -> None:
    best = max(expected_logits(bundles / "reranker", QUERY, text)[0] for text in PARAGRAPHS)
    reply = reranker.post("/v2/rerank", {"query": QUERY, "documents": [LONG]})
    np.testing.assert_allclose(ok(reply)["results"][0]["relevance_score"], best, atol=1e-4)
    assert "x-truncated-inputs" not in reply.headers


def test_what_is_left_out_is_said(reranker: Server, bundles: Path) -> None:
    first = expected_logits(bundles / "reranker", QUERY, PARAGRAPHS[0])[0]
    question = {"query": QUERY, "documents": [LONG]}
    for fields in ({"max_chunks_per_doc": 1}, {"max_tokens_per_doc": 12}):
        reply = reranker.post("/v1/rerank", {**question, **fields})
        np.testing.assert_allclose(ok(reply)["results"][0]["relevance_score"], first, atol=1e-4)
        assert reply.headers["x-truncated-inputs"] == "1"
    assert reranker.post("/v1/rerank", {**question, "truncation": True}).headers["x-truncated-inputs"] == "1"


# --- TEI ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/rerank", "/"])
def test_tei_rerank(reranker: Server, logits: Logits, path: str) -> None:
    question = {"query": QUERY, "texts": DOCUMENTS}
    found = ok(reranker.post(path, question))
    assert all(set(one) == {"index", "score"} for one in found)
    assert_ranked(found, sigmoid(logits), "score")
    raw = ok(reranker.post(path, {**question, "raw_scores": True, "return_text": True}))
    assert_ranked(raw, logits, "score")
    assert [one["text"] for one in raw] == [DOCUMENTS[one["index"]] for one in raw]


def test_tei_truncates_where_it_is_told(reranker: Server) -> None:
    question = {"query": QUERY, "texts": [LONG], "raw_scores": True}
    right = reranker.post("/rerank", {**question, "truncate": True})
    left = reranker.post("/rerank", {**question, "truncate": True, "truncation_direction": "Left"})
    assert right.headers["x-truncated-inputs"] == left.headers["x-truncated-inputs"] == "1"
    assert ok(right) != ok(left)
    assert reranker.post("/rerank", {**question, "truncate": False}).status_code == 413


@pytest.mark.parametrize(
    ("fields", "status", "kind"),
    [
        ({"texts": []}, 400, "Empty"),
        ({"query": ""}, 400, "Empty"),
        ({"texts": ["mill"] * 9}, 413, "Validation"),
        ({"texts": ["mill", 7]}, 422, "Validation"),
        ({"texts": None}, 422, "Validation"),
        ({"query": None}, 422, "Validation"),
    ],
)
def test_tei_refusals(reranker: Server, fields: dict[str, Any], status: int, kind: str) -> None:
    reply = reranker.post("/rerank", {"query": QUERY, "texts": DOCUMENTS, **fields})
    assert reply.status_code == status, reply.text
    assert reply.json()["error_type"] == kind
    assert reply.json()["error"]


def test_predict_has_the_labels_of_texts_and_pairs(classifier: Server, bundles: Path) -> None:
    inputs = [["the mill"], ["the mill", "abc def"]]
    expected = [expected_logits(bundles / "classifier", *one, labels=3) for one in inputs]
    batch = ok(classifier.post("/predict", {"inputs": inputs, "raw_scores": True}))
    for found, known in zip(batch, expected, strict=True):
        assert [one["label"] for one in found] == [f"LABEL_{i}" for i in np.argsort(-known)]
        np.testing.assert_allclose([one["score"] for one in found], np.sort(known)[::-1], atol=1e-4)
    shares = np.exp(expected[1]) / np.exp(expected[1]).sum()
    pair = ok(classifier.post("/predict", {"inputs": inputs[1]}))
    np.testing.assert_allclose([one["score"] for one in pair], np.sort(shares)[::-1], atol=1e-5)
    assert ok(classifier.post("/predict", {"inputs": "the mill"})) == ok(classifier.post("/", {"inputs": ["the mill"]}))


def test_a_long_text_has_the_mean_of_its_parts(classifier: Server, bundles: Path) -> None:
    parts = np.stack([expected_logits(bundles / "classifier", text, labels=3) for text in PARAGRAPHS])
    found = ok(classifier.post("/predict", {"inputs": LONG, "raw_scores": True}))
    np.testing.assert_allclose([one["score"] for one in found], np.sort(parts.mean(0))[::-1], atol=1e-4)


def test_predict_of_a_reranker_has_one_label(reranker: Server, logits: Logits) -> None:
    (found,) = ok(reranker.post("/predict", {"inputs": [QUERY, DOCUMENTS[0]]}))
    assert found["label"] == "LABEL_0"
    assert found["score"] == pytest.approx(sigmoid(logits)[0], abs=1e-5)


@pytest.mark.parametrize(
    ("inputs", "status"), [([], 400), ([[]], 400), (["a", "b", "c"], 422), ([["a", 7]], 422), (7, 422), (None, 422)]
)
def test_predict_refusals(classifier: Server, inputs: Any, status: int) -> None:
    assert classifier.post("/predict", {"inputs": inputs}).status_code == status


# --- models of other kinds ------------------------------------------------------------------------------------


def test_info_says_what_is_served(reranker: Server, classifier: Server) -> None:
    assert reranker.http.get("/info").json()["model_type"]["reranker"]["id2label"] == {"0": "LABEL_0"}
    assert reranker.http.get("/v2/models/tiny-reranker").json()["outputs"] == []
    labels = classifier.http.get("/info").json()["model_type"]["classifier"]
    assert labels["label2id"] == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}


def test_what_a_model_does_not_give_is_refused_in_the_path_s_own_words(
    server: Server, reranker: Server, classifier: Server
) -> None:
    question = {"query": QUERY, "documents": DOCUMENTS}
    for one in (server, classifier):
        for path in ("/v1/rerank", "/v2/rerank"):
            reply = one.post(path, question)
            assert reply.status_code == 400
            assert "ranking" in reply.json()["message"]
        reply = one.post("/rerank", {"query": QUERY, "texts": DOCUMENTS})
        assert (reply.status_code, reply.json()["error_type"]) == (424, "Backend")
    assert server.post("/predict", {"inputs": "a"}).status_code == 424
    assert reranker.post("/embed", {"inputs": "a"}).status_code == 424
    assert "reranker" in assert_openai_error(reranker.post("/v1/embeddings", {"input": "a"}), 400)["message"]


# --- what all requests have in common -------------------------------------------------------------------------


def test_pairs_are_cached_counted_and_logged(reranker: Server) -> None:
    documents = ["seen before", "seen too", "seen before"]
    hits = reranker.metric("embedserve_cache_hits_total")
    first = reranker.post("/v2/rerank", {"query": "ab", "documents": documents})
    inputs = reranker.metric("embedserve_inputs_total", route="/v2/rerank")
    again = reranker.post("/v2/rerank", {"query": "ab", "documents": documents})
    assert ok(first)["results"] == ok(again)["results"]
    assert reranker.metric("embedserve_cache_hits_total") - hits == 3
    assert reranker.metric("embedserve_inputs_total", route="/v2/rerank") - inputs == 3
    (line,) = reranker.access_lines(again.headers["x-request-id"])
    assert (line["inputs"], line["chunks"]) == (3, 3)
    # The same tokens the other way round are another pair.
    swapped = ok(reranker.post("/v2/rerank", {"query": "seen before", "documents": ["ab"]}))
    assert swapped["results"][0]["relevance_score"] != ok(first)["results"][0]["relevance_score"]
