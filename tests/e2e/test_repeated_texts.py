"""Texts that come again: computed once while they wait or run, and kept where there is a cache."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.conftest import StartServer
from tests.e2e.process import DIMENSIONS, Server, cosines, wait_until


def long_text(name: str) -> str:
    """No two windows of two of them, or of one, are alike."""
    return " ".join(f"The {number}th thing that {name} says is not the same as any other." for number in range(60))


def saved(server: Server) -> float:
    return server.metric("embedserve_deduplicated_rows_total")


def ran(server: Server) -> float:
    return server.metric("embedserve_batch_rows_sum")


def test_alike_texts_of_a_request_are_run_once_and_counted_as_many(server: Server) -> None:
    before, rows, chunks = saved(server), ran(server), server.metric("embedserve_chunks_total")
    texts = ["One text of these.", "Another text.", "One text of these.", "One text of these."]
    reply = server.post("/v1/embeddings", {"input": texts})
    vectors = server.embed(texts)
    assert vectors.shape == (4, DIMENSIONS)
    assert (vectors[0] == vectors[2]).all()
    assert (vectors[0] == vectors[3]).all()
    assert cosines(vectors, np.concatenate([server.embed(text) for text in texts])).min() >= 0.999999
    assert cosines(vectors[:1], vectors[1:2])[0] < 0.99
    assert saved(server) - before == 2 * 2
    assert ran(server) - rows == 2 * 2 + 4
    assert server.metric("embedserve_chunks_total") - chunks == 2 * 4 + 4
    lengths = [server.post("/v1/embeddings", {"input": text}).json()["usage"]["prompt_tokens"] for text in texts]
    assert reply.json()["usage"]["prompt_tokens"] == sum(lengths)


def test_alike_requests_at_once_are_run_once_and_each_gets_its_vectors(start_server: StartServer) -> None:
    server = start_server("--executors", "1")
    texts = [long_text(f"person {number}") for number in range(8)]  # a second or so of work
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: server.embed(texts), range(6)))
    for answer in answers:
        assert cosines(answer, answers[0]).min() >= 0.999999
    assert ran(server) + saved(server) == server.metric("embedserve_chunks_total")
    assert saved(server) > 0
    assert server.metric("embedserve_computed_tokens_total") == server.metric("embedserve_batch_tokens_sum")


def test_without_the_setting_nothing_is_kept(start_server: StartServer) -> None:
    server = start_server()
    for _ in range(3):
        server.embed("The same text again.")
    assert ran(server) == 3
    for name in ("hits_total", "misses_total", "evictions_total", "bytes", "entries"):
        assert server.metric(f"embedserve_cache_{name}") == 0


def test_what_is_in_the_cache_is_not_run_again(start_server: StartServer) -> None:
    server = start_server("--cache-bytes", "1000000")
    texts = ["A text that comes again.", "Another one.", long_text("somebody")]
    first = server.embed(texts)
    rows, computed = ran(server), server.metric("embedserve_computed_tokens_total")
    again = server.embed(texts)
    alone = np.concatenate([server.embed(text) for text in reversed(texts)])[::-1]
    assert (first == again).all()
    assert (first == alone).all()
    assert ran(server) == rows
    assert server.metric("embedserve_computed_tokens_total") == computed
    assert server.metric("embedserve_cache_misses_total") == rows
    assert server.metric("embedserve_cache_hits_total") == 2 * rows
    assert server.metric("embedserve_cache_entries") == rows
    assert 1536 * rows < server.metric("embedserve_cache_bytes") < 3500 * rows
    # The vector alone is kept: what a request makes of it is its own affair.
    short = server.post("/v1/embeddings", {"input": texts[0], "encoding_format": "float"}).json()
    assert np.allclose(short["data"][0]["embedding"], first[0])


def test_token_embeddings_are_kept_apart_from_vectors(start_server: StartServer) -> None:
    server = start_server("--cache-bytes", "10000000")
    vector = server.embed("One two three.")
    states = [server.post("/embed_all", {"inputs": "One two three."}).json() for _ in range(2)]
    assert states[0] == states[1]
    assert np.asarray(states[0][0]).shape == (6, DIMENSIONS)
    assert (server.embed("One two three.") == vector).all()
    assert server.metric("embedserve_cache_hits_total") == 2
    assert ran(server) == 2
    assert server.metric("embedserve_cache_entries") == 2


def test_the_limit_is_kept_by_throwing_out_the_oldest(start_server: StartServer) -> None:
    server = start_server("--cache-bytes", "10000")
    for number in range(12):
        server.embed(f"Text number {number}.")
        assert server.metric("embedserve_cache_bytes") <= 10_000
    kept = server.metric("embedserve_cache_entries")
    assert kept + server.metric("embedserve_cache_evictions_total") == 12
    assert kept >= 4
    before = ran(server)
    server.embed("Text number 11.")
    assert ran(server) == before
    server.embed("Text number 0.")
    assert ran(server) == before + 1


def test_the_cache_answers_where_the_queue_is_full(start_server: StartServer) -> None:
    server = start_server("--cache-bytes", "1000000", "--executors", "1", "--max-queue-tokens", "300")
    known = server.embed("A text that comes again.")
    with ThreadPoolExecutor(2) as pool:
        # The first is larger than the queue and so let in where none of its size waits.
        busy = pool.submit(server.post, "/v1/embeddings", {"input": [long_text(f"the first {i}") for i in range(20)]})
        wait_until(lambda: server.metric("embedserve_queue_tokens") > 300, "a full queue")
        refused = server.post("/v1/embeddings", {"input": [long_text(f"the other {i}") for i in range(20)]})
        assert refused.status_code == 429
        assert (server.embed("A text that comes again.") == known).all()
        assert busy.result().status_code == 200


@pytest.mark.parametrize("value", ["-1", "many"])
def test_the_setting_takes_bytes(launch: StartServer, value: str) -> None:
    server = launch("--cache-bytes", value, ready=False)
    assert server.wait() != 0
    assert "cache-bytes" in server.stderr() or "cache_bytes" in server.stderr()
