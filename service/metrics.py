"""Prometheus metrics, and the only importer of prometheus_client.

Labels are bounded by construction: `model` is a served name, `route` a path template, `reason` a class of
`service.errors`, `key` a name in the key file. Nothing a client writes ever becomes a label. The event loop's
thread alone writes and renders them.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

import service
from service.tallies import Counter, Family, Gauge, Histogram

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SPOKEN = {"application/openmetrics-text", "text/plain"}
_QUALITY = re.compile(r";\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_POWERS_OF_TWO = tuple(2**i for i in range(0, 15))


class _Exposed(Collector):
    """A family of ours, as prometheus_client collects it."""

    def __init__(self, family: Family[Any]) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        metric = Metric(self._family.name, self._family.text, self._family.kind)
        for suffix, labels, value, found in self._family.samples():
            exemplar = None if found is None else Exemplar(dict(found.labels), found.value, found.at)
            metric.add_sample(self._family.name + suffix, dict(labels), value, exemplar=exemplar)
        yield metric


Child = TypeVar("Child", Counter, Gauge, Histogram)
_OUTPUTS = ("tokens",)  # labels of a model's outputs, beside the main one
_FAMILIES: list[Family[Any]] = []


def _family(name: str, text: str, labels: tuple[str, ...], make: Callable[[], Child]) -> Family[Child]:
    family = Family(f"embedserve_{name}", text, labels, make)
    REGISTRY.register(_Exposed(family))
    _FAMILIES.append(family)
    return family


def _counter(name: str, text: str, *labels: str) -> Family[Counter]:
    return _family(name.removesuffix("_total"), text, labels, Counter)


def _gauge(name: str, text: str, *labels: str) -> Family[Gauge]:
    return _family(name, text, labels, Gauge)


def _histogram(name: str, text: str, bounds: tuple[float, ...], *labels: str) -> Family[Histogram]:
    return _family(name, text, labels, partial(Histogram, bounds))


REQUESTS = _counter("requests_total", "Requests answered", "model", "route", "status")
REQUEST_SECONDS = _histogram(
    "request_duration_seconds", "First byte read to last byte written", _SECONDS, "model", "route"
)
IN_FLIGHT = _gauge("requests_in_flight", "Requests being worked on", "route")
REJECTIONS = _counter("rejections_total", "Requests refused or failed, by reason", "model", "route", "reason")

TOKENS = _counter("tokens_total", "Tokens of inputs, special tokens counted once an input", "model", "route")
INPUTS = _counter("inputs_total", "Texts embedded", "model", "route")
CHUNKS = _counter("chunks_total", "Windows that those texts made", "model", "route")
TRUNCATIONS = _counter("truncations_total", "Inputs that were cut off, and reported as such", "model", "route")

KEY_REQUESTS = _counter("key_requests_total", "Requests answered, by the key's name; keys without one: none", "key")
KEY_TOKENS = _counter("key_tokens_total", "Tokens that were taken from its limit, or would have been", "key")
KEY_RATE_LIMITED = _counter("key_rate_limited_total", "Requests refused by its limits", "key", "limit")

QUEUE_SECONDS = _histogram("queue_wait_seconds", "From queued to packed into a batch", _SECONDS, "model")
INFERENCE_SECONDS = _histogram("inference_seconds", "One session.run", _SECONDS, "model")
BATCH_TOKENS = _histogram("batch_tokens", "Tokens of a batch, padding counted", _POWERS_OF_TWO, "model")
BATCH_ROWS = _histogram("batch_rows", "Rows of a batch", _POWERS_OF_TWO, "model")
COMPUTED_TOKENS = _counter("computed_tokens_total", "Tokens run, padding counted", "model")
PADDING_TOKENS = _counter("padding_tokens_total", "Tokens run that were only padding", "model")
PADDING_RATIO = _histogram(
    "padding_ratio",
    "Padding ÷ all tokens of a batch",
    (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75),
    "model",
)
COMPUTED_RATIO = _histogram(
    "computed_tokens_ratio",
    "Tokens run for a request (special tokens, prompts, overlap and padding counted) ÷ tokens of its inputs",
    (1.0, 1.01, 1.02, 1.05, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0),
    "model",
)
FAILED_BATCHES = _counter(
    "failed_batches_total", "Batches that the runtime failed on; those who are not to blame were run again", "model"
)
FAILING = _gauge("failing", "1 while the runtime fails on what is known to work", "model")
DEDUPLICATED_ROWS = _counter(
    "deduplicated_rows_total", "Chunks not run because one of the same tokens was waiting or running", "model"
)
CACHE_HITS = _counter("cache_hits_total", "Chunks answered from the cache", "model")
CACHE_MISSES = _counter("cache_misses_total", "Chunks looked for in the cache in vain", "model")
CACHE_EVICTIONS = _counter("cache_evictions_total", "Entries that had to go from the cache for newer ones", "model")
CACHE_BYTES = _gauge("cache_bytes", "Memory that the cache takes, keys and overhead counted", "model")
CACHE_ENTRIES = _gauge("cache_entries", "Vectors, or matrices of token vectors, in the cache", "model")
DROPPED = _counter("dropped_total", "Chunks that were dropped unrun, by reason", "model", "reason")
UNCLAIMED = _counter(
    "unclaimed_rows_total",
    "Chunks that ran for nobody: the last request that wanted them ended while they ran, by the reason of its end",
    "model",
    "reason",
)
QUEUE_TOKENS = _gauge("queue_tokens", "Tokens waiting", "model")
QUEUE_ENTRIES = _gauge("queue_entries", "Chunks waiting", "model")
RUNNING_BATCHES = _gauge("running_batches", "Batches handed to executors", "model")
EXECUTORS = _gauge("executors", "Batches that may run at a time, the express executor left out", "device")
STALLED_SECONDS = _gauge("stalled_seconds", "Age of the oldest batch, or long text, that is being worked on").labels()
MEMORY_LIMIT = _gauge("memory_limit_bytes", "What the container may have; +Inf where nothing limits it").labels()

HELD_BODY_BYTES = _gauge("held_body_bytes", "Bytes of request bodies that are read or worked on").labels()
CONNECTIONS = _gauge("connections", "Open connections of clients").labels()
CONNECTIONS_CUT = _counter(
    "connections_cut_total", "Connections ended because the client was too slow, or sent too much, by reason", "reason"
)

LOST_LOG_LINES = _gauge(
    "lost_log_lines", "Lines that stderr or stdout did not take: a pipe that nobody reads, a full disk"
).labels()
TLS_FAILURES = _counter("tls_failed_handshakes_total", "Handshakes of TLS that failed, by reason", "reason")
TLS_EXPIRES = _gauge(
    "tls_certificate_expires_timestamp_seconds", "Unix time of the certificate's end; +Inf where there is none"
).labels()
TLS_EXPIRES.set(math.inf)

SPANS = _counter(
    "spans_total",
    "Spans of traces: exported, failed (the collector did not take them), or dropped here as too many waited",
    "outcome",
)

BUILD_INFO = _gauge("build_info", "1; the versions are in the labels", "version", "python", "onnxruntime")
MODEL_INFO = _gauge(
    "model_info", "1; what is served is in the labels", "model", "model_id", "precision", "target", "dimensions",
    "max_seq_length",
)  # fmt: skip
READY = _gauge("ready", "1 when requests are accepted").labels()
START_SECONDS = _gauge("start_seconds", "Process start to ready").labels()
PROCESSES = _gauge("processes", "Processes that share a port, this one included").labels()
PROCESSES.set(1)
RESTARTS = _counter(
    "process_restarts_total", "Times that this one of several processes on one port was started anew"
).labels()


class OfResults(NamedTuple):
    """What is counted for every result."""

    tokens: Counter
    inputs: Counter
    rows: Counter
    ratio: Histogram


# Looking a child up by its labels costs more than counting does.


@cache
def of_results(model: str, route: str) -> OfResults:
    """The children of a model and a route, both from bounded sets."""
    both = (model, route)
    return OfResults(TOKENS.labels(*both), INPUTS.labels(*both), CHUNKS.labels(*both), COMPUTED_RATIO.labels(model))


@cache
def of_requests(model: str, route: str, status: int) -> tuple[Counter, Histogram]:
    """REQUESTS and REQUEST_SECONDS."""
    return REQUESTS.labels(model, route, str(status)), REQUEST_SECONDS.labels(model, route)


@cache
def of_rejections(model: str, route: str, reason: str) -> Counter:
    """The child of REJECTIONS; reasons are those of `service.errors`."""
    return REJECTIONS.labels(model, route, reason)


class OfKey(NamedTuple):
    """What is counted for every request of a key with a name."""

    requests: Counter
    tokens: Counter


@cache
def of_key(name: str) -> OfKey:
    """The children of a name in the key file."""
    return OfKey(KEY_REQUESTS.labels(name), KEY_TOKENS.labels(name))


def forget_model(name: str) -> None:
    """What is counted for a model that is not served any more, all its outputs included."""
    for family in _FAMILIES:
        for model in [name, *(f"{name} ({output})" for output in _OUTPUTS)]:
            family.forget("model", model)
    of_results.cache_clear()
    of_requests.cache_clear()
    of_rejections.cache_clear()


def forget_key(name: str) -> None:
    """What is counted for a key's name that is in the file no more."""
    for family in (KEY_REQUESTS, KEY_TOKENS, KEY_RATE_LIMITED):
        family.forget("key", name)
    of_key.cache_clear()


def render(accept: str, process: int | None = None) -> tuple[bytes, str]:
    """All of it, and its content type: OpenMetrics, which has exemplars, for who accepts that, or else Prometheus's
    text format. With a number every sample has the label `process`, as one of several that are shown together."""
    encode, content_type = choose_encoder(_preferred(accept))
    return encode(REGISTRY if process is None else _OfProcess(process)), content_type


class _OfProcess(Collector):
    """All families with one more label. Sums over processes would be none: a counter that falls when one of them is
    started anew looks to Prometheus as if all had been."""

    def __init__(self, number: int) -> None:
        self._label = {"process": str(number)}

    def collect(self) -> Iterator[Metric]:
        for family in REGISTRY.collect():
            metric = Metric(family.name, family.documentation, family.type, family.unit)
            metric.samples = [one._replace(labels={**one.labels, **self._label}) for one in family.samples]
            yield metric


def merged(texts: Sequence[bytes]) -> bytes:
    """Of several processes as one exposition, where a family may stand only once: its samples, one process's after
    another's. All are in one format; none is empty, and all but the first may end after any line."""
    heads: dict[bytes, bytes] = {}  # of the first that has the family
    families: dict[bytes, list[bytes]] = {}
    for text in texts:
        for family in (b"\n" + text.removesuffix(_LAST_LINE)).split(_FIRST_LINE)[1:]:
            lines = family.rstrip(b"\n").split(b"\n")
            about = [line for line in lines[1:] if line.startswith(b"# ")]
            heads.setdefault(lines[0], b"\n".join([lines[0], *about]))
            families.setdefault(lines[0], []).extend(lines[1 + len(about) :])
    found = [_FIRST_LINE + b"\n".join([heads[name], *samples]) for name, samples in families.items()]
    return b"".join(found)[1:] + b"\n" + (_LAST_LINE if texts[0].endswith(_LAST_LINE) else b"")


_FIRST_LINE = b"\n# HELP "  # of a family; in a label's value a line break is written otherwise
_LAST_LINE = b"# EOF\n"  # of OpenMetrics


def _preferred(accept: str) -> str:
    """Of the types that are spoken here, that with the largest `q`, or else the first; none where that is 0."""
    spoken = [one for one in accept.split(",") if one.partition(";")[0].strip() in _SPOKEN]
    best = max(spoken, key=_quality, default="")
    return best if _quality(best) else ""


def _quality(accepted: str) -> float:
    found = _QUALITY.search(accepted)
    return float(found[1]) if found else 1.0


def record_build(python: str, onnxruntime: str) -> None:
    """Versions, once."""
    BUILD_INFO.labels(service.__version__, python, onnxruntime).set(1)


def seconds_since_process_start() -> float:
    """Wall time since the kernel started this process; since this import where /proc does not say."""
    try:
        with open("/proc/self/stat") as stat:
            started_ticks = int(stat.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime") as uptime:
            return float(uptime.read().split()[0]) - started_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return time.monotonic() - _IMPORTED


_IMPORTED = time.monotonic()
