"""Spans of a real server at a collector that decodes the real protocol."""

from __future__ import annotations

import os
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from tests.conftest import StartServer
from tests.e2e.collector import Collector, Span
from tests.e2e.process import HASTY, MODEL, TOO_MUCH, VERTEX_MODEL, Server, full_windows, wait_until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = f"00-{TRACE}-{PARENT}-01", f"00-{TRACE}-{PARENT}-00"
RESPONSE = re.compile(r"00-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})")
UNSET, ERROR = 0, 2
CANARY = "canary-4e1c-text"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def variables(collector: Collector, **more: str) -> dict[str, str]:
    """Of a server whose spans go there soon; FastAPI is asked to send its own, which it must not, and to read headers
    by what is not installed."""
    own = {"OTEL_EXPORTER_OTLP_ENDPOINT": f" {collector.endpoint} ", "OTEL_BSP_SCHEDULE_DELAY": "50"}
    own["OTEL_PROPAGATORS"] = "tracecontext,baggage,b3"
    return own | {"FASTAPI_OTEL_AUTO_CONFIGURE": "true"} | more


@pytest.fixture(scope="module")
def traced(launch: StartServer, collector: Collector) -> Server:
    named = "service.name=by-attribute,deployment.environment.name=test"
    return launch(env=variables(collector, OTEL_RESOURCE_ATTRIBUTES=named, OTEL_SERVICE_NAME="vectors"))


def trace_of(reply: httpx.Response) -> str:
    """By its own header."""
    found = RESPONSE.fullmatch(reply.headers["traceresponse"])
    assert found
    return found["trace"]


def openmetrics(text: str) -> list[Metric]:
    """By the format's own strict parser."""
    return list(text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def children(spans: list[Span]) -> dict[str, Span]:
    """By their names; the server span is their parent."""
    server = next(one for one in spans if one.kind == 2)
    found = {one.name: one for one in spans if one is not server}
    assert {one.parent for one in found.values()} == {server.id}
    return found


def test_a_request_is_a_server_span_and_its_phases(traced: Server, collector: Collector) -> None:
    reply = traced.post("/v1/embeddings", {"input": ["one text", "and another one"]}, x_request_id="mine")
    assert reply.status_code == 200
    spans = collector.whole(trace_of(reply))
    server = collector.server_span(trace_of(reply))
    assert (server.name, server.parent, server.status) == ("POST /v1/embeddings", "", UNSET)
    assert server.attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/embeddings",
        "http.response.status_code": 200,
        "url.path": "/v1/embeddings",
        "url.scheme": "http",
        "network.protocol.name": "http",
        "network.protocol.version": "1.1",
        "gen_ai.operation.name": "embeddings",
        "gen_ai.provider.name": "embedserve",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.model": MODEL,
        "gen_ai.usage.input_tokens": 9,
        "gen_ai.embeddings.dimension.count": 384,
        "embedserve.model": MODEL,
        "embedserve.inputs": 2,
        "embedserve.tokens": 9,
        "embedserve.chunks": 2,
        "embedserve.computed_tokens": 10,
        "embedserve.request_id": "mine",
    }
    found = children(spans)
    assert set(found) == {"tokenise", "queue", "run", "aggregate", "encode"}
    order = [found[name] for name in ("tokenise", "queue", "run", "aggregate", "encode")]
    edges = [server.begins, *(edge for one in order for edge in (one.begins, one.ends)), server.ends]
    assert edges == sorted(edges)
    assert found["queue"].ends == found["run"].begins
    run = dict(found["run"].attributes)
    assert run.pop("embedserve.executor").startswith("executor-cpu_")
    assert run.pop("embedserve.batch.number") > 0
    assert run == {
        "embedserve.rows": 2,
        "embedserve.batch.rows": 2,
        "embedserve.batch.tokens": 10,
        "embedserve.batch.is_lone": True,
    }


def test_the_resource_is_the_operators_and_the_process(traced: Server, collector: Collector) -> None:
    collector.whole(trace_of(traced.post("/v1/embeddings", {"input": "a"})))
    assert collector.paths == {"/v1/traces"}
    resource = collector.resources()[-1]
    assert (resource["service.name"], resource["deployment.environment.name"]) == ("vectors", "test")
    assert resource["service.version"]
    assert resource["service.instance.id"]


def test_a_clients_span_is_the_parent(traced: Server, collector: Collector) -> None:
    """OpenTelemetry's own tracer and propagator beside OpenAI's own client."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("client")
    headers: dict[str, str] = {}
    with tracer.start_as_current_span("ask") as asking:
        TraceContextTextMapPropagator().inject(headers)
        client = openai.OpenAI(base_url=f"{traced.url}/v1", api_key="none")
        raw = client.embeddings.with_raw_response.create(input="hello", model=MODEL, extra_headers=headers)
    mine = asking.get_span_context()
    server = collector.server_span(f"{mine.trace_id:032x}")
    assert server.parent == f"{mine.span_id:016x}"
    assert raw.headers["traceresponse"] == f"00-{server.trace}-{server.id}-{mine.trace_flags:02x}"


def test_what_vendors_said_goes_with_it(traced: Server, collector: Collector) -> None:
    trace = "1" * 32
    headers = [("traceparent", f"00-{trace}-{PARENT}-01"), ("tracestate", "a=1,b=2"), ("tracestate", "c=3")]
    traced.http.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    assert {one.state for one in collector.whole(trace)} == {"a=1,b=2,c=3"}


def test_a_trace_that_is_not_sampled_has_ids_alone(traced: Server, collector: Collector) -> None:
    unsampled = traced.post("/v1/embeddings", {"input": "a"}, traceparent=NOT_SAMPLED)
    after = traced.post("/v1/embeddings", {"input": "a"})
    collector.whole(trace_of(after))
    assert collector.spans(TRACE) == []
    found = RESPONSE.fullmatch(unsampled.headers["traceresponse"])
    assert found
    assert (found["trace"], found["flags"]) == (TRACE, "00")
    (line,) = traced.access_lines(unsampled.headers["x-request-id"])
    assert (line["trace_id"], line["span_id"]) == (TRACE, found["span"])


@pytest.mark.parametrize(
    "given",
    [
        *("", "nonsense", SAMPLED.upper(), f"ff{SAMPLED[2:]}", f"{SAMPLED}-more", SAMPLED[:-1], f"{SAMPLED}0"),
        *(f"00-{'0' * 32}-{PARENT}-01", f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{PARENT}", "x" * 1000),
        *(f"00-{TRACE[:-1]}é-{PARENT}-01", f"{SAMPLED},{SAMPLED}"),
    ],
)
def test_a_malformed_parent_is_none(traced: Server, given: str) -> None:
    headers = {b"traceparent": given.encode("latin-1")}
    reply = traced.http.post("/v1/embeddings", json={"input": "a"}, headers=headers)
    assert reply.status_code == 200
    assert trace_of(reply) != TRACE


def test_two_parents_are_none_and_later_versions_are_read(traced: Server) -> None:
    twice = traced.http.post("/v1/embeddings", json={"input": "a"}, headers=[("traceparent", SAMPLED)] * 2)
    assert trace_of(twice) != TRACE
    later = traced.post("/v1/embeddings", {"input": "a"}, traceparent=f"cc-{TRACE}-{PARENT}-00-what-is-to-come")
    assert later.headers["traceresponse"].startswith(f"00-{TRACE}-")


@pytest.mark.parametrize(
    ("method", "path", "name", "status"),
    [
        ("POST", "/v1/embeddings", "POST /v1/embeddings", 400),
        ("DELETE", "/v1/embeddings", "DELETE /v1/embeddings", 405),
        ("PROPFIND", "/v1/embeddings", "HTTP /v1/embeddings", 405),
        ("GET", f"/nowhere/{CANARY}", "GET", 404),
        ("GET", f"/v1/models/{CANARY}", "GET /v1/models/{model:path}", 404),
    ],
)
def test_who_asks_wrongly_made_no_error_of_the_servers(
    traced: Server, collector: Collector, method: str, path: str, name: str, status: int
) -> None:
    reply = traced.http.request(method, path, content=b"{" if method == "POST" else None)
    assert reply.status_code == status
    span = collector.server_span(trace_of(reply))
    assert (span.name, span.status, span.attributes["http.response.status_code"]) == (name, UNSET, status)
    assert "error.type" not in span.attributes
    assert span.attributes["embedserve.reason"]


def test_what_is_too_late_or_too_much(start_server: StartServer, collector: Collector) -> None:
    server = start_server(*HASTY, "--requests-per-minute", "1", env=variables(collector))
    late = server.post("/v1/embeddings", {"input": TOO_MUCH})
    much = server.post("/v1/embeddings", {"input": "a"})
    assert (late.status_code, much.status_code) == (504, 429)
    span = collector.server_span(trace_of(late))
    assert (span.status, span.attributes["error.type"]) == (ERROR, "deadline_exceeded")
    failed = [one for one in collector.spans(span.trace) if one.status == ERROR and one is not span]
    assert [one.attributes for one in failed if one.parent == span.id] == [{"error.type": "deadline_exceeded"}]
    span = collector.server_span(trace_of(much))
    assert (span.status, span.attributes["embedserve.reason"]) == (UNSET, "rate_limited")
    (line,) = [one for one in server.logged() if one["level"] == "error"]
    assert line["trace_id"] == trace_of(late)


def test_requests_of_one_batch_name_it(start_server: StartServer, collector: Collector) -> None:
    server = start_server("--executors", "1", env=variables(collector))

    def ask(number: int) -> str:
        text = full_windows(4)[number] if number < 4 else f"text {number}"
        return trace_of(server.post("/v1/embeddings", {"input": text}))

    with ThreadPoolExecutor(24) as threads:
        traces = list(threads.map(ask, range(24)))
    batches: dict[int, list[Span]] = defaultdict(list)
    for trace in traces:
        run = children(collector.whole(trace))["run"]
        batches[run.attributes["embedserve.batch.number"]].append(run)
    assert max(map(len, batches.values())) > 1
    for runs in batches.values():
        assert len({(one.begins // 1_000_000, one.attributes["embedserve.batch.tokens"]) for one in runs}) <= 2
        assert {one.attributes["embedserve.batch.rows"] for one in runs} == {len(runs)}


def test_a_document_has_a_run_for_each_of_its_batches(traced: Server, collector: Collector) -> None:
    reply = traced.post("/v1/embeddings", {"input": full_windows(5, 100)})
    found = [one for one in collector.whole(trace_of(reply)) if one.name == "run"]
    assert len(found) > 1
    assert sum(one.attributes["embedserve.rows"] for one in found) == 5


def test_other_dialects_and_long_texts_too(traced: Server, collector: Collector) -> None:
    reply = traced.post(VERTEX_MODEL, {"instances": [{"content": "word " * 3000}]})
    assert reply.status_code == 200
    spans = collector.whole(trace_of(reply))
    assert {"tokenise", "queue", "run", "aggregate", "encode"} == {one.name for one in spans if one.kind != 2}
    assert collector.server_span(trace_of(reply)).attributes["embedserve.chunks"] > 1


def test_probes_and_scrapes_are_not_traced(traced: Server) -> None:
    for path in ("/livez", "/readyz", "/metrics"):
        assert "traceresponse" not in traced.http.get(path, headers={"traceparent": SAMPLED}).headers


def test_nothing_that_clients_write_is_sent(start_server: StartServer, collector: Collector) -> None:
    server = start_server("--api-keys", f"{CANARY}-key", env=variables(collector))
    key = {"authorization": f"Bearer {CANARY}-key"}
    asked = [
        server.post("/v1/embeddings", {"input": CANARY}, **key),
        server.post("/v1/embeddings", {"input": CANARY, "model": CANARY}, **key),
        server.post("/v1/embeddings", {"input": [CANARY, ""], "dimensions": 1, "user": CANARY}, **key),
        server.post("/v1/embeddings", {"input": CANARY}, authorization=f"Bearer {CANARY}"),
        server.http.get(f"/v1/models/{CANARY}?key={CANARY}", headers={**key, "user-agent": CANARY}),
        server.http.get(f"/{CANARY}?{CANARY}={CANARY}", headers={"x-forwarded-for": CANARY, "host": CANARY}),
    ]
    for reply in asked:
        collector.whole(trace_of(reply))
    assert b"/v1/embeddings" in collector.received()
    assert CANARY.encode() not in collector.received()


def test_a_collector_that_takes_nothing_holds_up_nobody(start_server: StartServer) -> None:
    """It refuses, asks for patience, is gone: each is counted, and told once. Wrong headers are told of, not shown."""
    refusing = Collector()
    wrong = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_EXPORTER_OTLP_HEADERS": f"{CANARY} is a key"}
    server = start_server(env=variables(refusing, **wrong))

    def fails_again() -> None:
        before = server.metric("embedserve_spans_total", outcome="failed")
        server.assert_well()
        wait_until(lambda: server.metric("embedserve_spans_total", outcome="failed") > before, "spans that failed")

    for refusing.status in (307, 400, 503):
        fails_again()
    refusing.close()
    fails_again()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    misread, failed = [one for one in server.logged() if one["level"] == "warning"]
    assert "OTEL_" in misread["message"]
    assert "could not be sent" in failed["message"]
    assert failed["endpoint"] == refusing.endpoint
    assert failed["because"]
    assert CANARY not in server.stderr()


@pytest.mark.parametrize(
    ("status", "drips", "because"),
    [(503, False, "status 503"), (400, False, "status 400"), (200, True, "does not end"), (None, False, "refused")],
)
def test_the_log_says_why_spans_are_not_sent(
    start_server: StartServer, status: int | None, drips: bool, because: str
) -> None:
    refusing = Collector()
    refusing.drips = drips
    if status is None:
        refusing.close()
    else:
        refusing.status = status
    server = start_server(env=variables(refusing, OTEL_EXPORTER_OTLP_TIMEOUT="1"))
    server.assert_well()
    wait_until(lambda: server.metric("embedserve_spans_total", outcome="failed") > 0, "spans that failed")
    server.assert_well()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    *_, failed = [one for one in server.logged() if "could not be sent" in one["message"]]
    assert because in failed["because"]
    assert server.logged()[-1]["message"] == "stopped"
    if status is not None:
        refusing.close()


def test_spans_that_a_collector_rejects_are_none_that_it_took(start_server: StartServer) -> None:
    choosy = Collector()
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "no room for these"
    choosy.body = answer.SerializeToString()
    server = start_server(env=variables(choosy))
    server.assert_well()
    wait_until(lambda: server.metric("embedserve_spans_total", outcome="failed") == 2, "two that were rejected")
    assert server.metric("embedserve_spans_total", outcome="exported") == len(choosy.spans()) - 2
    (line,) = [one for one in server.logged() if "could not be sent" in one["message"]]
    assert line["because"] == "2 spans were rejected: no room for these"
    choosy.close()


def test_a_collector_that_hangs_fills_a_bounded_queue_and_no_more(start_server: StartServer) -> None:
    hanging = Collector()
    hanging.answers.clear()
    server = start_server(env=variables(hanging, OTEL_BSP_MAX_QUEUE_SIZE="16"))
    for _ in range(12):
        server.assert_well()
    assert server.metric("embedserve_spans_total", outcome="dropped") > 0
    assert server.metric("embedserve_spans_total", outcome="exported") == 0
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert [one["message"] for one in server.logged()].count("spans were dropped, as too many wait to be sent") == 1
    hanging.close()


def test_the_last_spans_are_sent_before_the_end(start_server: StartServer, collector: Collector) -> None:
    server = start_server(env=variables(collector, OTEL_BSP_SCHEDULE_DELAY="3600000"))
    traces = [trace_of(server.post("/v1/embeddings", {"input": f"last words {i}"})) for i in range(3)]
    assert not any(collector.spans(trace) for trace in traces)
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
    assert all(collector.spans(trace) for trace in traces)


def test_a_share_of_all_traces(start_server: StartServer, collector: Collector) -> None:
    never = variables(collector, OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0")
    server = start_server(env=never)
    assert server.post("/v1/embeddings", {"input": "a"}).headers["traceresponse"].endswith(("-00", "-02"))
    trace = "2" * 32
    server.post("/v1/embeddings", {"input": "a"}, traceparent=f"00-{trace}-{PARENT}-01")
    assert collector.whole(trace)
    (line,) = [one for one in server.logged() if one["message"] == "traces"]
    assert line["endpoint"] == collector.endpoint
    assert (line["sampler"], line["share"]) == ("parentbased_traceidratio", 0)


def test_without_an_endpoint_there_is_no_trace(server: Server) -> None:
    reply = server.post("/v1/embeddings", {"input": "a"}, traceparent=SAMPLED)
    assert "traceresponse" not in reply.headers
    (line,) = server.access_lines(reply.headers["x-request-id"])
    assert not {"trace_id", "span_id"} & line.keys()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL"),
        ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "some"}, "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT"),
        ({"OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "mine"}, "opentelemetry_otlp_credential_provider"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/ca.pem", "OTEL_TRACES_SAMPLER": "some"}, "OTEL_TRACES_SAMPLER"),
    ],
)
def test_wrong_variables_are_refused(
    start_server: StartServer, collector: Collector, changed: dict[str, str], said: str
) -> None:
    server = start_server(env=variables(collector) | changed, ready=False)
    assert server.wait() == 1
    reason, remedy = server.stderr().splitlines()
    assert said in reason
    assert remedy.startswith("  → ")


def test_a_missing_package_is_refused(start_server: StartServer, collector: Collector, tmp_path: Path) -> None:
    stand_in = tmp_path / "opentelemetry" / "exporter"
    stand_in.mkdir(parents=True)
    missing = "raise ModuleNotFoundError('no exporter', name='opentelemetry.exporter')"
    (stand_in / "__init__.py").write_text(missing)
    paths = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    server = start_server(env=variables(collector) | paths, ready=False)
    assert server.wait() == 1
    reason, remedy = server.stderr().splitlines()
    assert "opentelemetry.exporter is not installed" in reason
    assert "pip install 'embedserve[otel]'" in remedy


def test_exemplars_name_the_trace(traced: Server) -> None:
    reply = traced.post("/v1/embeddings", {"input": "an example"})
    scraped = traced.http.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert scraped.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    found = {
        sample.exemplar.labels["trace_id"]
        for family in openmetrics(scraped.text)
        for sample in family.samples
        if sample.name == "embedserve_request_duration_seconds_bucket" and sample.exemplar
    }
    assert trace_of(reply) in found


def test_who_asks_for_plain_text_gets_it(traced: Server) -> None:
    traced.assert_well()
    plain = traced.http.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "trace_id" not in plain.text
    assert "# EOF" not in plain.text


def test_the_same_numbers_in_both(server: Server) -> None:
    """Without traces, too, OpenMetrics' own parser reads all of it."""
    families = openmetrics(server.http.get("/metrics", headers={"accept": "application/openmetrics-text"}).text)
    assert {one.name for one in families} >= {"embedserve_requests", "embedserve_request_duration_seconds"}
    assert not any(sample.exemplar for one in families for sample in one.samples)
