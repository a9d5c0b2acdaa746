"""A real Prometheus scrapes the real server, and knows the trace of a bucket's request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.prometheus import scraping
from tests.conftest import StartServer
from tests.e2e.collector import Collector
from tests.e2e.process import wait_until
from tests.monitoring.prometheus import PACKAGE

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(not PACKAGE.can_be_had(), reason="needs Debian's Prometheus"),
]

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
ASKED = {"query": "embedserve_request_duration_seconds_bucket", "start": "0", "end": "9999999999"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def test_prometheus_keeps_exemplars(start_server: StartServer, collector: Collector, tmp_path: Path) -> None:
    server = start_server(env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint})
    reply = server.post("/v1/embeddings", {"input": "a"}, traceparent=f"00-{TRACE}-00f067aa0ba902b7-01")
    assert reply.status_code == 200
    with scraping(PACKAGE.program(), {server.port: {}}, tmp_path) as prometheus:

        def traces() -> set[str]:
            series = prometheus.get("query_exemplars", **ASKED)
            return {found["labels"]["trace_id"] for one in series for found in one["exemplars"]}

        wait_until(lambda: TRACE in traces(), "the trace among Prometheus's exemplars")
        assert [up for _, up in prometheus.query("up")] == [1]
