"""Vectors served over HTTP are those of sentence-transformers, whatever else is in flight."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import Golden
from tests.e2e.process import MODEL, Server, Vectors, cosines, openai_vectors, vertex_vectors

MAX_DIFFERENCE = 1e-4
MIN_COSINE = 0.99999
MIN_COSINE_BETWEEN_BATCHES = 0.999999


@pytest.fixture(scope="module")
def alone(server: Server, golden: Golden) -> Vectors:
    """(texts, dimensions), each text in a request of its own, one after the other."""
    return np.concatenate([server.embed(text) for text in golden.texts])


def assert_parity(vectors: Vectors, golden: Golden) -> None:
    assert vectors.shape == golden.vectors.shape
    assert np.abs(vectors - golden.vectors).max() <= MAX_DIFFERENCE
    assert cosines(vectors, golden.vectors).min() >= MIN_COSINE


def test_there_are_enough_texts(golden: Golden) -> None:
    assert len(golden.texts) >= 40


def test_alone(alone: Vectors, golden: Golden) -> None:
    assert_parity(alone, golden)


@pytest.mark.parametrize("encoding_format", ["float", "base64"])
def test_all_in_one_request(server: Server, golden: Golden, alone: Vectors, encoding_format: str) -> None:
    vectors = server.embed(golden.texts, encoding_format=encoding_format)
    assert_parity(vectors, golden)
    assert cosines(vectors, alone).min() >= MIN_COSINE_BETWEEN_BATCHES


def test_all_in_one_vertex_request(server: Server, golden: Golden, alone: Vectors) -> None:
    vectors = vertex_vectors(server.predict(*golden.texts))
    assert_parity(vectors, golden)
    assert cosines(vectors, alone).min() >= MIN_COSINE_BETWEEN_BATCHES


@pytest.mark.parametrize("seed", [1, 2])
def test_shuffled_in_concurrent_requests(server: Server, golden: Golden, alone: Vectors, seed: int) -> None:
    order = list(range(len(golden.texts))) * 3
    random.Random(seed).shuffle(order)
    sizes = random.Random(seed)
    groups: list[list[int]] = []
    while order:
        size = sizes.choice([1, 1, 1, 2, 3, 7, 20])
        groups.append(order[:size])
        order = order[size:]
    with ThreadPoolExecutor(32) as pool:
        replies = list(pool.map(lambda group: server.embed([golden.texts[i] for i in group]), groups))
    for group, vectors in zip(groups, replies, strict=True):
        assert cosines(vectors, alone[group]).min() >= MIN_COSINE_BETWEEN_BATCHES
        assert np.abs(vectors - golden.vectors[group]).max() <= MAX_DIFFERENCE


def test_usage_counts_tokens_as_the_reference_does(server: Server, golden: Golden) -> None:
    for text, tokens in zip(golden.texts, golden.tokens.tolist(), strict=True):
        usage = server.post("/v1/embeddings", {"input": text}).json()["usage"]
        assert usage == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_usage_of_many_inputs_is_their_sum(server: Server, golden: Golden) -> None:
    reply = server.post("/v1/embeddings", {"input": golden.texts})
    assert reply.json()["usage"]["prompt_tokens"] == int(golden.tokens.sum())


def test_vertex_counts_tokens_of_each_instance(server: Server, golden: Golden) -> None:
    predictions = server.predict(*golden.texts)["predictions"]
    statistics = [one["embeddings"]["statistics"] for one in predictions]
    assert [one["token_count"] for one in statistics] == golden.tokens.tolist()
    assert not any(one["truncated"] for one in statistics)


def test_floats_and_base64_are_the_same_bits(server: Server, golden: Golden) -> None:
    body = {"input": golden.texts[:8], "model": MODEL}
    both = [
        openai_vectors(server.post("/v1/embeddings", body | {"encoding_format": form})) for form in ("float", "base64")
    ]
    # Two runs may be batched differently; float → text → float must not add to that.
    assert np.abs(both[0] - both[1]).max() <= 1e-6
