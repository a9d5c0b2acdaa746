"""Metrics that add up, labels that nobody can multiply, and logs without a word of anybody's text."""

from __future__ import annotations

import math
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.cores import usable_cores
from tests.conftest import StartServer
from tests.e2e.process import HASTY, MODEL, TOO_MUCH, VERTEX_ENDPOINT, VERTEX_MODEL, Raw, Server

CANARY = "canary-9f3b-text"
KEY, WRONG_KEY = "canary-right-key-77", "canary-wrong-key-88"
FAMILIES = {
    "embedserve_requests": "counter",
    "embedserve_request_duration_seconds": "histogram",
    "embedserve_requests_in_flight": "gauge",
    "embedserve_rejections": "counter",
    "embedserve_spans": "counter",
    "embedserve_key_requests": "counter",
    "embedserve_key_tokens": "counter",
    "embedserve_key_rate_limited": "counter",
    "embedserve_tokens": "counter",
    "embedserve_inputs": "counter",
    "embedserve_chunks": "counter",
    "embedserve_truncations": "counter",
    "embedserve_queue_wait_seconds": "histogram",
    "embedserve_inference_seconds": "histogram",
    "embedserve_batch_tokens": "histogram",
    "embedserve_batch_rows": "histogram",
    "embedserve_computed_tokens": "counter",
    "embedserve_padding_tokens": "counter",
    "embedserve_padding_ratio": "histogram",
    "embedserve_deduplicated_rows": "counter",
    "embedserve_cache_hits": "counter",
    "embedserve_cache_misses": "counter",
    "embedserve_cache_evictions": "counter",
    "embedserve_cache_bytes": "gauge",
    "embedserve_cache_entries": "gauge",
    "embedserve_dropped": "counter",
    "embedserve_queue_tokens": "gauge",
    "embedserve_queue_entries": "gauge",
    "embedserve_running_batches": "gauge",
    "embedserve_executors": "gauge",
    "embedserve_stalled_seconds": "gauge",
    "embedserve_memory_limit_bytes": "gauge",
    "embedserve_tls_certificate_expires_timestamp_seconds": "gauge",
    "embedserve_build_info": "gauge",
    "embedserve_model_info": "gauge",
    "embedserve_ready": "gauge",
    "embedserve_processes": "gauge",
    "embedserve_process_restarts": "counter",
    "embedserve_start_seconds": "gauge",
    "process_resident_memory_bytes": "gauge",
}


@pytest.fixture
def fresh(start_server: StartServer) -> Server:
    """A server of this test alone, so that counts are exact."""
    return start_server()


def test_every_family_is_there_after_traffic(fresh: Server) -> None:
    fresh.embed(["a", "word " * 600])
    fresh.predict("word " * 600, autoTruncate=True)
    fresh.post("/v1/embeddings", b"{")
    reply = fresh.http.get("/metrics")
    assert reply.headers["content-type"].startswith("text/plain")
    families = {family.name: family.type for family in text_string_to_metric_families(reply.text)}
    assert families.items() >= FAMILIES.items()


def test_counts_match_what_was_sent(fresh: Server) -> None:
    for _ in range(3):
        fresh.embed(["a", "b"])
    fresh.embed("word " * 200 + "house " * 200 + "street " * 200)  # no two windows alike
    fresh.predict("a", "word " * 600, autoTruncate=True)
    fresh.predict("a", path=VERTEX_ENDPOINT)
    fresh.post("/v1/embeddings", {"input": []})
    fresh.post("/v1/embeddings", b"{")
    fresh.post("/v1/embeddings", {"input": "a", "model": "no-such"})
    fresh.http.get("/nowhere")
    openai = {"route": "/v1/embeddings"}
    assert fresh.metric("embedserve_requests_total", status="200", model=MODEL, **openai) == 4
    assert fresh.metric("embedserve_requests_total", status="400", **openai) == 2
    assert fresh.metric("embedserve_requests_total", status="404", **openai) == 1
    assert fresh.metric("embedserve_requests_total", status="404", route="unmatched") == 1
    assert fresh.metric("embedserve_request_duration_seconds_count", **openai) == 7
    assert fresh.metric("embedserve_inputs_total", **openai) == 7
    assert fresh.metric("embedserve_tokens_total", **openai) == 6 * 3 + 602
    assert fresh.metric("embedserve_chunks_total", **openai) == 6 + 3
    assert fresh.metric("embedserve_truncations_total") == 1
    for reason in ("invalid_input", "malformed_body", "model_not_found", "route_not_found"):
        assert fresh.metric("embedserve_rejections_total", reason=reason) == 1
    rows = 6 + 3 + 2 + 1
    assert fresh.metric("embedserve_batch_rows_sum", model=MODEL) == rows
    assert fresh.metric("embedserve_queue_wait_seconds_count", model=MODEL) == rows
    batches = fresh.metric("embedserve_inference_seconds_count", model=MODEL)
    assert 1 <= batches <= rows
    assert fresh.metric("embedserve_batch_tokens_count") == fresh.metric("embedserve_padding_ratio_count") == batches
    computed = fresh.metric("embedserve_computed_tokens_total")
    assert fresh.metric("embedserve_batch_tokens_sum") == computed
    # Each window has two special tokens of its own.
    assert computed - fresh.metric("embedserve_padding_tokens_total") == 6 * 3 + (600 + 3 * 2) + 3 + 256 + 3
    assert fresh.metric("embedserve_executors", device="cpu") == usable_cores()
    assert fresh.metric("embedserve_memory_limit_bytes") > 0
    assert fresh.metric("embedserve_tls_certificate_expires_timestamp_seconds") == math.inf
    for gauge in ("queue_tokens", "queue_entries", "running_batches", "stalled_seconds"):
        assert fresh.metric(f"embedserve_{gauge}") == 0
    assert fresh.metric("embedserve_model_info", model=MODEL, dimensions="384", max_seq_length="256") == 1
    assert fresh.metric("embedserve_build_info") == 1
    assert fresh.metric("embedserve_ready") == 1
    assert fresh.metric("embedserve_start_seconds") > 0


def test_nothing_a_client_writes_becomes_a_label(fresh: Server) -> None:
    def series() -> set[tuple[str, tuple[tuple[str, str], ...]]]:
        return {
            (sample.name, tuple(sorted(sample.labels.items())))
            for family in text_string_to_metric_families(fresh.http.get("/metrics").text)
            for sample in family.samples
        }

    def visit(name: str) -> None:
        fresh.post("/v1/embeddings", {"model": name, "input": "a", name: 1})
        fresh.http.get(f"/v1/models/{name}")
        fresh.http.get(f"/{name}")
        fresh.post(f"/v1/projects/{name}/locations/{name}/publishers/{name}/models/{name}:predict", {"instances": []})
        fresh.post(f"/v1/projects/{name}/locations/l/endpoints/{name}:predict", {"instances": [{"content": "a"}]})
        fresh.http.request(name[:6].upper(), "/v1/embeddings")
        with Raw(fresh.port) as raw:
            raw.send(f"{name} /v1/embeddings HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())

    visit("first-name")
    series()  # the scrape's own labels
    before = series()
    for i in range(20):
        visit(f"random-{i}")
    assert series() == before
    assert not any("random-" in str(one) for one in before)


def test_every_line_is_json_and_nothing_is_told(start_server: StartServer) -> None:
    server = start_server("--log-level", "debug", "--max-inputs", "5", env={"EMBEDSERVE_API_KEYS": KEY})
    key = {"api-key": KEY}
    openai_bodies: list[object] = [
        {"input": CANARY},
        {"input": [CANARY, 3]},
        {"input": [CANARY] * 6},
        {"input": {CANARY: CANARY}},
        {"input": CANARY, "model": CANARY},
        {"input": CANARY, "dimensions": CANARY},
        {"input": CANARY, "encoding_format": CANARY},
        {"input": CANARY, "user": CANARY, CANARY: CANARY},
        {"input": "cat " * 400_000 + CANARY},
        b'{"input": "' + CANARY.encode(),
        b'{"input": "' + CANARY.encode() + b'\\ud800"}',
        CANARY.encode(),
    ]
    vertex_bodies: list[object] = [
        {"instances": [{"content": CANARY, "title": CANARY}]},
        {"instances": [{"content": CANARY, "task_type": CANARY}]},
        {"instances": [{"content": CANARY}, CANARY]},
        {"instances": [{"content": CANARY + " word" * 600}], "parameters": {"autoTruncate": False}},
        {"instances": [{"content": CANARY}], "parameters": {"outputDimensionality": CANARY}},
    ]
    replies = [server.post("/v1/embeddings", body, api_key=KEY) for body in openai_bodies]
    replies += [server.post(VERTEX_MODEL, body, api_key=KEY) for body in vertex_bodies]
    replies += [
        server.post("/v1/embeddings", {"input": CANARY}, authorization=f"Bearer {WRONG_KEY}"),
        server.post(f"{VERTEX_MODEL}?key={WRONG_KEY}", {"instances": []}),
        server.post(f"{VERTEX_MODEL}?key={KEY}", {"instances": [{"content": CANARY}]}),
        server.http.get(f"/{CANARY}?key={KEY}"),
        server.http.get(f"/v1/models/{CANARY}", headers=key),
        server.http.post("/v1/models", headers=key, content=CANARY),
    ]
    assert {reply.status_code for reply in replies} == {200, 400, 401, 404, 405}
    with Raw(server.port) as raw:
        raw.send(f"{CANARY} {CANARY}\r\n\r\n".encode())
        raw.closed_by_server()
    with Raw(server.port) as raw:
        raw.send(f"GET /é{CANARY} HTTP/1.1\r\nHost: x\r\nX-Key: {KEY}\r\n\r\n".encode())
        raw.closed_by_server()
    access = server.access_lines(replies[-2].headers["x-request-id"])
    assert len(access) == 1
    server.stop()
    for line in server.logged():
        assert {"time", "level", "message"} <= line.keys()
    for secret in (CANARY, KEY, WRONG_KEY):
        assert secret not in server.stderr()
        assert secret not in server.stdout()


def test_a_failing_request_tells_nothing_either(start_server: StartServer) -> None:
    server = start_server(*HASTY)
    texts = [f"{CANARY} {text}" for text in TOO_MUCH]
    assert server.post("/v1/embeddings", {"input": texts}).status_code == 504
    server.stop()
    assert any(line["level"] == "error" for line in server.logged())
    assert CANARY not in server.stderr()


def test_access_lines(server: Server) -> None:
    reply = server.post("/v1/embeddings", {"input": ["a", "b"]})
    (line,) = server.access_lines(reply.headers["x-request-id"])
    assert {name: line[name] for name in ("method", "route", "status", "model", "inputs", "tokens", "chunks")} == {
        "method": "POST",
        "route": "/v1/embeddings",
        "status": 200,
        "model": MODEL,
        "inputs": 2,
        "tokens": 6,
        "chunks": 2,
    }
    assert line["ms"] > 0
    refused = server.post("/v1/embeddings", {"input": []})
    (line,) = server.access_lines(refused.headers["x-request-id"])
    assert (line["status"], line["reason"]) == (400, "invalid_input")


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/v1/embeddings")])
def test_strays_are_logged_too(server: Server, method: str, path: str) -> None:
    reply = server.http.request(method, path)
    (line,) = server.access_lines(reply.headers["x-request-id"])
    assert line["status"] == reply.status_code


@pytest.mark.parametrize("asked", ["abc", "req_123", "00-4bf92f3577b34da6-01", "a.b:c_d-e", "x" * 128])
def test_sane_request_ids_come_back(server: Server, asked: str) -> None:
    assert server.post("/v1/embeddings", {"input": "a"}, x_request_id=asked).headers["x-request-id"] == asked
    assert server.post("/v1/embeddings", b"{", x_request_id=asked).headers["x-request-id"] == asked
    assert server.http.get("/livez", headers={"x-request-id": asked}).headers["x-request-id"] == asked


@pytest.mark.parametrize("asked", ["", "a b", "x" * 129, 'a"b', "a\tb", "é", "a;b", "${jndi:ldap}"])
def test_others_are_replaced(server: Server, asked: str) -> None:
    reply = server.http.post("/v1/embeddings", json={"input": "a"}, headers={b"x-request-id": asked.encode("latin-1")})
    assert re.fullmatch(r"req_[0-9a-f]{32}", reply.headers["x-request-id"])


def test_request_ids_differ(server: Server) -> None:
    assert len({server.http.get("/v1/models").headers["x-request-id"] for _ in range(20)}) == 20


def test_the_access_log_can_be_turned_off_and_text_chosen(start_server: StartServer) -> None:
    server = start_server("--no-access-log", "--log-format", "text")
    server.assert_well()
    server.stop()
    assert "/v1/embeddings" not in server.stderr()
    assert "ready" in server.stderr()
    assert "{" not in server.stderr()
