"""/embed_sparse, on a real server with a tiny sparse model, against a reference in float64."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.compile import compile_checkpoint
from models.verify import token_rows
from service.bundle import read_bundle
from tests.conftest import StartServer
from tests.e2e.process import Server
from tests.models import tiny
from tests.models.sparse import expected_weights, write_splade

LONG = "the river and the mill of the town " * 4  # several windows of the tiny model's 24 tokens
PROMPTS = {"query": "q ", "document": ""}
Weights = NDArray[np.float64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a tiny SPLADE model with prompts."""
    root = tmp_path_factory.mktemp("sparse")
    source = write_splade(root / "tiny-splade", prompts=PROMPTS)
    return compile_checkpoint(str(source), cache_dir=root / "cache", output=root / "bundle", say=print)


@pytest.fixture(scope="module")
def sparse(launch: StartServer, folder: Path) -> Server:
    return launch("--max-inputs", "8", model=folder)


@pytest.fixture(scope="module")
def expected(folder: Path) -> Weights:
    """(texts, vocabulary) of tiny.TEXTS."""
    return of_rows(token_rows(folder, read_bundle(folder), tiny.TEXTS))


def of_rows(rows: Sequence[Sequence[int]]) -> Weights:
    return np.stack([expected_weights(row) for row in rows])


def weights_of(reply: httpx.Response) -> Weights:
    """(inputs, vocabulary), with the form checked: what is 0 is left out, indices rise."""
    assert reply.status_code == 200, reply.text
    found = np.zeros((len(reply.json()), len(tiny.VOCABULARY)))
    for row, weights in zip(found, reply.json(), strict=True):
        indices = [one["index"] for one in weights]
        assert indices == sorted(set(indices))
        assert all(set(one) == {"index", "value"} and one["value"] > 0 for one in weights)
        row[indices] = [one["value"] for one in weights]
    return found


def embed(server: Server, inputs: Any, **fields: Any) -> Weights:
    return weights_of(server.post("/embed_sparse", {"inputs": inputs, **fields}))


def test_weights_are_the_reference_s_alone_and_together(sparse: Server, expected: Weights) -> None:
    together = embed(sparse, tiny.TEXTS)[: len(tiny.TEXTS) - 1]  # the last is longer than a window
    np.testing.assert_allclose(together, expected[:-1], atol=1e-4)
    alone = np.concatenate([embed(sparse, text) for text in tiny.TEXTS[:-1]])
    np.testing.assert_allclose(alone, together, atol=1e-6)
    assert 0 < (together > 0).mean() < 1


def test_token_ids_are_texts(sparse: Server) -> None:
    ids = [token["id"] for token in sparse.post("/tokenize", {"inputs": "river mill"}).json()[0]]
    np.testing.assert_allclose(embed(sparse, [ids]), embed(sparse, "river mill"), atol=1e-6)


def test_prompts_are_read(sparse: Server) -> None:
    np.testing.assert_allclose(embed(sparse, "river", prompt_name="query"), embed(sparse, "q river"), atol=1e-6)
    assert not np.allclose(embed(sparse, "river"), embed(sparse, "q river"), atol=1e-3)


def test_a_long_input_s_chunks_are_combined_by_their_maximum(sparse: Server, folder: Path) -> None:
    tokens = [token["id"] for token in sparse.post("/tokenize", {"inputs": LONG}).json()[0]][1:-1]
    reply = sparse.post("/embed_sparse", {"inputs": LONG, "chunking": {"boundary": "token"}})
    size = read_bundle(folder).max_seq_length - 2
    rows = [[2, *tokens[start : start + size], 3] for start in range(0, len(tokens), size)]
    assert len(rows) > 1
    np.testing.assert_allclose(weights_of(reply)[0], of_rows(rows).max(axis=0), atol=1e-4)
    assert "x-truncated-inputs" not in reply.headers
    assert reply.headers["x-compute-tokens"] == str(len(tokens) + 2)


def test_truncation_is_reported_and_has_two_sides(sparse: Server, folder: Path) -> None:
    reply = sparse.post("/embed_sparse", {"inputs": LONG, "truncate": True})
    assert reply.headers["x-truncated-inputs"] == "1"
    cut = of_rows(token_rows(folder, read_bundle(folder), [LONG]))
    np.testing.assert_allclose(weights_of(reply), cut, atol=1e-4)
    left = sparse.post("/embed_sparse", {"inputs": LONG, "truncate": True, "truncation_direction": "Left"})
    assert not np.allclose(weights_of(left), cut, atol=1e-3)


def test_only_the_largest_weights_are_kept_where_the_model_says_so(
    launch: StartServer, tmp_path: Path, expected: Weights
) -> None:
    source = write_splade(tmp_path / "few", max_active_dims=5)
    few = launch(model=compile_checkpoint(str(source), cache_dir=tmp_path, output=tmp_path / "bundle", say=print))
    found = embed(few, tiny.TEXTS[:-1])
    assert set((found > 0).sum(axis=1)) == {5}
    for row, whole in zip(found, expected, strict=False):
        np.testing.assert_allclose(np.sort(row[row > 0]), np.sort(whole)[-5:], atol=1e-4)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"inputs": []}, 400, "Empty"),
        ({"inputs": [[]]}, 400, "Empty"),
        ({"inputs": 7}, 422, "Validation"),
        ({}, 422, "Validation"),
        ({"inputs": ["a"] * 9}, 413, "Validation"),
        ({"inputs": LONG, "truncate": False}, 413, "Validation"),
        ({"inputs": "a", "truncation_direction": "Up"}, 422, "Validation"),
        ({"inputs": "a", "prompt_name": "no"}, 422, "Validation"),
        ({"inputs": [[99999]]}, 422, "Validation"),
        ({"inputs": "a", "chunking": {"aggregation": "mean"}}, 422, "Validation"),
        ({"inputs": "a", "return_chunks": True}, 422, "Validation"),
        ({"inputs": LONG, "late": True}, 422, "Validation"),
    ],
)
def test_bad_requests_fail_in_tei_s_words(sparse: Server, body: Any, status: int, kind: str) -> None:
    reply = sparse.post("/embed_sparse", body)
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error", "error_type"}
    assert reply.json()["error_type"] == kind


def test_a_dense_model_has_no_weights_and_a_sparse_one_no_vectors(sparse: Server, server: Server) -> None:
    reply = server.post("/embed_sparse", {"inputs": "a"})
    assert reply.status_code == 424
    assert reply.json()["error_type"] == "Backend"
    assert reply.json()["error"].startswith("Backend error: Model is not an embedding model with SPLADE pooling")
    for path in ("/embed", "/embed_all", "/"):
        reply = sparse.post(path, {"inputs": "a"})
        assert reply.status_code == 424, path
        assert reply.json()["error"].startswith("Backend error: Model is not an embedding model.")
    reply = sparse.post("/v1/embeddings", {"input": "a", "model": "tiny-splade"})
    assert reply.status_code == 400
    assert "/embed_sparse" in reply.json()["error"]["message"]


def test_the_server_says_what_it_serves(sparse: Server) -> None:
    info = sparse.http.get("/info").json()
    assert info["model_type"] == {"embedding": {"pooling": "splade"}}
    described = sparse.http.get("/openapi.json").json()["paths"]["/embed_sparse"]["post"]
    assert described["responses"]["200"]["content"]["application/json"]["schema"]


def test_what_repeats_comes_from_the_cache(launch: StartServer, folder: Path) -> None:
    cached = launch("--cache-bytes", "1000000", model=folder)
    first = embed(cached, LONG)
    np.testing.assert_array_equal(embed(cached, LONG), first)
    assert cached.metric("embedserve_cache_hits_total") >= 2
