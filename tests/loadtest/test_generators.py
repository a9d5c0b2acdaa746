"""Both load generators, against the real server: they must count what happened, and not overlook what failed."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np
import pytest

import loadtest.server
from loadtest import client, generator, wrk
from loadtest.client import Job, Result
from loadtest.local import free_port
from tests.e2e.process import Server, cosines, openai_vectors

needs_wrk = pytest.mark.skipif(not wrk.available(), reason="wrk is not installed")
GENERATORS = [client.run, pytest.param(wrk.run, marks=needs_wrk)]
TEXTS = [f"text number {number} of a load" for number in range(20_000)]


def _job(server: Server, **changes: Any) -> Job:
    bodies = [json.dumps({"input": text, "encoding_format": "float"}) for text in TEXTS]
    job = Job("127.0.0.1", server.port, "/v1/embeddings", 4, 1.0, bodies, [8] * len(bodies), sampled=[0, 2])
    return replace(job, server_pid=server.process.pid, **changes)


def _answered(server: Server) -> float:
    return server.metric("embedserve_requests_total", route="/v1/embeddings", status="200")


@pytest.mark.parametrize("run", GENERATORS)
def test_what_is_counted_is_what_the_server_answered(server: Server, run: Callable[[Job], Result]) -> None:
    before = _answered(server)
    result = run(_job(server))
    assert not result.failures
    assert not result.repeated
    assert 0 < result.answered <= _answered(server) - before
    assert result.requests_per_second > 0
    assert result.tokens_per_second == pytest.approx(8 * result.requests_per_second)
    assert 0 < result.p50 <= result.p99
    assert result.client_cpu > 0
    assert result.server_cpu is not None
    assert result.server_cpu > 0


@pytest.mark.parametrize("run", GENERATORS)
def test_samples_are_the_answers_to_their_texts(server: Server, run: Callable[[Job], Result]) -> None:
    samples = run(_job(server)).samples
    assert set(samples) == {"0", "2"}
    for text_number, answer in samples.items():
        rows = [one["embedding"] for one in json.loads(answer)["data"]]
        expected = openai_vectors(server.post("/v1/embeddings", {"input": TEXTS[int(text_number)]}))
        assert cosines(np.asarray(rows, dtype=np.float32), expected).min() > 0.999999


@pytest.mark.parametrize("run", GENERATORS)
def test_a_refused_request_is_a_failure(server: Server, run: Callable[[Job], Result]) -> None:
    result = run(_job(server, bodies=['{"input": 7}'], tokens=[1], sampled=[], warmup=0.0))
    assert sum(result.failures.values()) > 0
    assert result.first_failure


def test_nobody_there_is_a_failure_and_not_the_generators() -> None:
    result = client.run(Job("127.0.0.1", free_port(), "/v1/embeddings", 2, 0.5, ["{}"], [1]))
    assert result.failures == {"no connection": 1}
    assert "refused" in result.first_failure.lower()


@needs_wrk
def test_what_wrk_says_is_told() -> None:
    with pytest.raises(RuntimeError, match="unable to connect to 127"):
        wrk.run(Job("127.0.0.1", free_port(), "/v1/embeddings", 2, 0.5, ["{}"], [1], warmup=0.0))


@pytest.mark.parametrize("run", GENERATORS)
def test_texts_that_were_sent_twice_are_counted(server: Server, run: Callable[[Job], Result]) -> None:
    result = run(_job(server, bodies=_job(server).bodies[:8], tokens=[8] * 8, sampled=[]))
    assert result.repeated > 0


def test_parts_of_requests_are_counted_by_the_servers_own_counters(server: Server) -> None:
    body = json.dumps({"input": TEXTS[:200]})
    tokens = server.post("/v1/embeddings", {"input": TEXTS[:200]}).json()["usage"]["prompt_tokens"]
    job = _job(server, bodies=[body] * 1000, tokens=[tokens] * 1000, sampled=[], counts_parts=True, seconds=2.0)
    result = generator.run(job)
    assert result.generator == "python"
    assert result.computed_per_second is not None
    assert result.computed_per_second > 0


def test_what_the_server_computed_is_asked_of_it_and_of_no_proxy(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("no_proxy", raising=False)
    counters = loadtest.server.Server("127.0.0.1", server.port, server.process.pid).counters()
    assert counters["computed_tokens_total"] > 0


def test_a_server_that_does_not_say_what_it_computed_is_a_failure() -> None:
    with _serving(_Listening) as port:
        job = Job("127.0.0.1", port, "/v1/embeddings", 1, 0.2, ["{}"] * 9, [1] * 9, warmup=0.1, counts_parts=True)
        result = client.run(job)
    assert result.failures["no counters"] == 2
    assert "/metrics does not say what was computed: HTTP Error 501" in result.first_failure


def test_a_job_of_requests_sent_once_counts_every_token_of_them(server: Server) -> None:
    count = "embedserve_inputs_total"
    before = server.metric(count)
    bodies = [json.dumps({"input": TEXTS[i : i + 50]}) for i in range(0, 350, 50)]
    result = generator.run(_job(server, bodies=bodies, tokens=[10] * 7, sampled=[6], once=True, seconds=60.0))
    assert server.metric(count) - before == 350
    assert (result.answered, result.repeated, result.failures) == (7, 0, {})
    assert result.requests_per_second * result.seconds == pytest.approx(7)
    assert result.tokens_per_second * result.seconds == pytest.approx(70)
    assert result.seconds >= result.p99 / 1e3
    assert set(result.samples) == {"6"}


def test_a_job_of_fewer_requests_than_connections_ends(server: Server) -> None:
    bodies = _job(server).bodies[:2]
    result = generator.run(_job(server, bodies=bodies, tokens=[8] * 2, sampled=[], once=True, seconds=60.0))
    assert result.answered == 2
    assert not result.failures


class _Listening(BaseHTTPRequestHandler):
    """Keeps the bodies that came, in their order."""

    protocol_version = "HTTP/1.1"
    heard: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        self.heard.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.mark.parametrize("run", GENERATORS)
def test_of_few_texts_all_are_sent_in_the_window(run: Callable[[Job], Result]) -> None:
    bodies = [json.dumps({"input": str(number)}) for number in range(8)]
    with _serving(_Listening) as port:
        result = run(Job("127.0.0.1", port, "/v1/embeddings", 4, 1.0, bodies, [1] * 8))
    assert result.answered > 32
    assert {body.decode() for body in _Listening.heard[-32:]} == set(bodies)


class _Impatient(BaseHTTPRequestHandler):
    """Closes connections that are idle for a moment; the text "slow" takes longer than that."""

    protocol_version = "HTTP/1.1"
    timeout = 0.2

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        time.sleep(1.0 if b"slow" in body else 0.0)
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Its port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        try:
            yield one.server_port
        finally:
            one.shutdown()
            thread.join()


def test_a_connection_with_nothing_left_to_send_may_be_closed() -> None:
    bodies = ['{"input": "slow"}', '{"input": "quick"}']
    with _serving(_Impatient) as port:
        result = client.run(Job("127.0.0.1", port, "/v1/embeddings", 2, 30.0, bodies, [1, 1], once=True))
    assert result.failures == {}
    assert result.answered == 2
