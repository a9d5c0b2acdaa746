"""Whether a long document or bulk requests delay short ones, and what the short ones cost them.

One process, because hardly anything is sent: probes (one short text, and GET /livez) every few milliseconds, beside
nothing, beside bulk requests, and beside one long document. What is compared takes turns, in windows of seconds, so
that a machine that is busy elsewhere disturbs all of it; the tables show medians over the rounds, and ratios taken
within them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pydoc_data.topics import topics
from typing import Any

import service
from loadtest import command, figures
from loadtest.client import percentile
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.report import aligned, machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import BULK, SINGLES, Text, Texts
from service.bundle import TOKENIZER_JSON, read_bundle
from service.runtime.session import runtime_version
from service.tokenizer import Tokenizer

_SEED = 20_240_229
_SHORT_TEXTS = 20_000  # drawn once; more probes than that begin again
_BULK_TEXTS = 256  # a request
_BULK_REQUESTS = 24  # drawn once, in turns: no two alike are ever under way together
_BULK_CONNECTIONS = 4
_SETTLE = 0.5  # seconds between the beginning or the end of a load and what is measured next
_FILL = 3.0  # seconds until every bulk request is tokenised and queued
_PATH = "/v1/embeddings"
# The document is larger than what a request may be by default.
_SERVE_OPTIONS = ("--max-request-tokens", "600000", "--max-body-bytes", "8000000", "--request-timeout", "300")
_PATIENCE = 330.0  # seconds until an answer counts as missing: the server itself gives up before
_PROBES = ("text", "livez")
_PERCENTILES = ("p50", "p95", "p99", "max")

# What must hold: p99 beside bulk at most so many times that of an idle server, plus one micro-batch; and the share
# of its throughput that bulk keeps.
TIMES_IDLE = 4
BULK_KEEPS = 0.90

_HELP = """\
Measure how long short requests wait beside long ones, and what they cost those, on a server of its own.

Probes, each on a connection of its own, one request at a time, --pause after the last one's answer (percentiles
count those that would have been sent while one waited):
  text        one text of 8-24 tokens to /v1/embeddings
  livez       GET /livez

bulk: 256 texts of 8-250 tokens a request, 4 connections without pause. The text probe on the idle server, then bulk
in windows of --seconds without, with, with and without it. Bulk's throughput is in real tokens, from the server's
counters, less the probe's. Two things must hold:
  p99 of the probe beside bulk <= 4 x its p99 on the idle server + one micro-batch, which is the mean of the
      server's inference_seconds while there is only bulk;
  bulk keeps >= 0.90 of its throughput.

document: one of --characters (Python's documentation) as one input, with and without both probes: short requests
must not starve it. --characters 0 leaves it out.

Any status but 200 ends the run with exit status 1.
"""
_EXAMPLES = """\
examples:
  python -m loadtest.fairness
  python -m loadtest.fairness --rounds 1 --characters 0              (a quick look)
  python -m loadtest.fairness -- --max-batch-tokens 256              (after --: options of `embedserve serve`)
"""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one probe in one phase, and how many answers they come from."""

    p50: float
    p95: float
    p99: float
    max: float
    answered: int

    @classmethod
    def of(cls, probe: _Probe) -> Latency:
        """From every answer's time."""
        seconds = probe.found
        found = [1e3 * one for answer in seconds for one in _as_if_sent_all_the_time(answer, probe.pause)]
        p50, p95, p99, most = (percentile(found, percent) for percent in (50, 95, 99, 100))
        return cls(p50, p95, p99, most, len(seconds))


def _as_if_sent_all_the_time(seconds: float, pause: float) -> Iterator[float]:
    """A probe that waits sends no other; those that would have come meanwhile would have waited for the rest.

    Without them ("coordinated omission", as HdrHistogram's expected interval has it) one wait of 40 s beside a
    hundred of 10 ms would be a percentile that nobody looks at. Without a pause nothing else was to be expected.
    """
    yield seconds
    while pause and (seconds := seconds - pause) > 0:
        yield seconds


@dataclass(frozen=True, slots=True)
class BulkRound:
    """The short text's latencies on an idle server and beside bulk; bulk's real tokens per second without and with
    it, and its own; its requests per second; and the mean milliseconds of a batch of bulk's."""

    idle: Latency
    beside: Latency
    tokens_alone: float
    tokens_beside: float
    tokens_of_probe: float
    probes: float
    micro_batch: float

    @property
    def bound(self) -> float:
        """Milliseconds that `beside.p99` may be."""
        return TIMES_IDLE * self.idle.p99 + self.micro_batch


@dataclass(frozen=True, slots=True)
class DocumentRound:
    """Latencies by probe on an idle server and beside the document; its own seconds without and with probes."""

    idle: Mapping[str, Latency]
    beside: Mapping[str, Latency]
    seconds_alone: float
    seconds_beside: float


@dataclass(frozen=True, slots=True)
class _Window:
    """What the server did in so many seconds: real tokens, batches, and their time."""

    seconds: float
    tokens: float
    batches: float
    batch_seconds: float

    def __add__(self, other: _Window) -> _Window:
        return _Window(
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            self.batches + other.batches,
            self.batch_seconds + other.batch_seconds,
        )


class _Connection:
    """Keep-alive; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, request: bytes) -> float:
        """Seconds to the last byte of the answer. Raises MeasurementError where it is no 200, or does not come."""
        begin = time.perf_counter()
        self._writer.write(request)
        try:
            async with asyncio.timeout(_PATIENCE):
                head, body = await self._answer()
        except (OSError, EOFError, IndexError) as error:  # TimeoutError is an OSError
            raise MeasurementError(f"no answer: {error!r}") from None
        if head[9:12] != b"200":
            raise MeasurementError(f"not every answer is a 200: {(head + body)[:500].decode('utf-8', 'replace')}")
        return time.perf_counter() - begin

    async def _answer(self) -> tuple[bytes, bytes]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        return head, await self._reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[_Connection]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield _Connection(reader, writer)
    finally:
        writer.transport.abort()


class _Probe:
    """Sends requests one at a time, and remembers how long each took."""

    def __init__(self, server: Server, requests: Iterator[tuple[bytes, int]], pause: float) -> None:
        """`requests`, each with its tokens; `pause` in seconds between an answer and the next of them."""
        self._server = server
        self.pause = pause
        self._requests = requests
        self.found: list[float] = []
        self.tokens = 0  # of those answered

    async def until(self, end: asyncio.Future[Any]) -> None:
        """Until `end` is done."""
        async with _connected(self._server) as connection:
            while not end.done():
                request, tokens = next(self._requests)
                self.found.append(await connection.exchange(request))
                self.tokens += tokens
                await asyncio.sleep(self.pause)


class _Bench:
    """Measures rounds against one server."""

    def __init__(self, server: Server, texts: Texts, seconds: float, pause: float, characters: int) -> None:
        self._server = server
        self._seconds = seconds
        self._pause = pause
        self._requests: Mapping[str, Iterator[tuple[bytes, int]]] = {
            "text": cycle([(_post(one.content), len(one.ids)) for one in texts.draw(_SHORT_TEXTS, SINGLES)]),
            "livez": cycle([(_get("/livez"), 0)]),
        }
        drawn = texts.draw(_BULK_REQUESTS * _BULK_TEXTS, BULK)
        self._bulk = cycle([_post_all(drawn[i : i + _BULK_TEXTS]) for i in range(0, len(drawn), _BULK_TEXTS)])
        self._document = _post(_document(characters))

    def _probe(self, name: str) -> _Probe:
        return _Probe(self._server, self._requests[name], self._pause)

    # --- beside bulk ------------------------------------------------------------------------------------------

    async def bulk(self) -> BulkRound:
        idle, beside = self._probe("text"), self._probe("text")
        await idle.until(asyncio.ensure_future(asyncio.sleep(2 * self._seconds)))
        async with self._bulk_load():
            alone = await self._window()
            both = await self._window(beside) + await self._window(beside)
            alone += await self._window()
        return BulkRound(
            idle=Latency.of(idle),
            beside=Latency.of(beside),
            tokens_alone=alone.tokens / alone.seconds,
            tokens_beside=both.tokens / both.seconds,
            tokens_of_probe=beside.tokens / both.seconds,
            probes=len(beside.found) / both.seconds,
            micro_batch=1e3 * alone.batch_seconds / alone.batches,
        )

    @asynccontextmanager
    async def _bulk_load(self) -> AsyncIterator[None]:
        clients = [asyncio.ensure_future(self._push_bulk()) for _ in range(_BULK_CONNECTIONS)]
        try:
            await asyncio.sleep(_FILL)
            _raise_what_ended(clients)
            yield
            _raise_what_ended(clients)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)
            await asyncio.sleep(_SETTLE)

    async def _push_bulk(self) -> None:
        async with _connected(self._server) as connection:
            while True:
                await connection.exchange(next(self._bulk))

    async def _window(self, probe: _Probe | None = None) -> _Window:
        """What the server does for others in `seconds`, with or without a probe."""
        before = await asyncio.to_thread(self._server.counters)
        begin, its_tokens = time.perf_counter(), probe.tokens if probe else 0
        end = asyncio.ensure_future(asyncio.sleep(self._seconds))
        await (probe.until(end) if probe else end)
        after = await asyncio.to_thread(self._server.counters)
        did = {name: after[name] - before[name] for name in after}
        return _Window(
            seconds=time.perf_counter() - begin,
            tokens=did["computed_tokens_total"]
            - did["padding_tokens_total"]
            - (probe.tokens - its_tokens if probe else 0),
            batches=did["inference_seconds_count"],
            batch_seconds=did["inference_seconds_sum"],
        )

    # --- beside a document ------------------------------------------------------------------------------------

    async def document(self, number: int) -> DocumentRound:
        """The document alone comes last in even rounds and first in odd ones, so that a slow drift favours neither."""
        alone = await self._document_alone() if number % 2 else 0.0
        idle = await self._probe_beside(asyncio.ensure_future(asyncio.sleep(self._seconds)))
        begin = time.perf_counter()
        load = asyncio.ensure_future(self._post_document())
        await asyncio.sleep(_SETTLE)
        beside = await self._probe_beside(load)
        seconds = time.perf_counter() - begin
        return DocumentRound(idle, beside, alone or await self._document_alone(), seconds)

    async def _probe_beside(self, load: asyncio.Future[None]) -> Mapping[str, Latency]:
        """Both probes for as long as the load lasts."""
        probes = {name: self._probe(name) for name in _PROBES}
        await asyncio.gather(*(probe.until(load) for probe in probes.values()))
        await load
        return {name: Latency.of(probe) for name, probe in probes.items()}

    async def _document_alone(self) -> float:
        begin = time.perf_counter()
        await self._post_document()
        return time.perf_counter() - begin

    async def _post_document(self) -> None:
        async with _connected(self._server) as connection:
            await connection.exchange(self._document)


def _raise_what_ended(clients: Sequence[asyncio.Future[None]]) -> None:
    """Clients never end but by an error."""
    for client in clients:
        if client.done():
            client.result()


def _document(characters: int) -> str:
    """Real prose, as often as it takes."""
    prose = "\n\n".join(topics.values())
    return (prose * (characters // len(prose) + 1))[:characters]


def _post(content: str | list[str]) -> bytes:
    body = json.dumps({"input": content, "encoding_format": "base64"}, ensure_ascii=False).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nhost: embedserve\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _post_all(texts: Sequence[Text]) -> bytes:
    return _post([one.content for one in texts])


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: embedserve\r\n\r\n".encode()


def bulk_summary(rounds: Sequence[BulkRound]) -> dict[str, Any]:
    """Medians over the rounds; ratios and the bound are taken within each."""
    bound = statistics.median(one.bound for one in rounds)
    of_bound = statistics.median(one.beside.p99 / one.bound for one in rounds)
    kept = statistics.median(one.tokens_beside / one.tokens_alone for one in rounds)
    return {
        "idle": _medians([one.idle for one in rounds]),
        "beside": _medians([one.beside for one in rounds]),
        "micro_batch": statistics.median(one.micro_batch for one in rounds),
        "bound": bound,
        "p99_of_bound": of_bound,
        "tokens_alone": statistics.median(one.tokens_alone for one in rounds),
        "tokens_beside": statistics.median(one.tokens_beside for one in rounds),
        "kept": kept,
        "kept_in_all": statistics.median(
            (one.tokens_beside + one.tokens_of_probe) / one.tokens_alone for one in rounds
        ),
        "probes": statistics.median(one.probes for one in rounds),
        "lost_per_probe": statistics.median((one.tokens_alone - one.tokens_beside) / one.probes for one in rounds),
        "holds": {"latency": of_bound <= 1, "throughput": kept >= BULK_KEEPS},
    }


def document_summary(rounds: Sequence[DocumentRound]) -> dict[str, Any]:
    """As `bulk_summary`; `times` are the ratios of a probe's latencies to those on the idle server."""
    probes = {
        name: {
            "idle": _medians([one.idle[name] for one in rounds]),
            "beside": _medians([one.beside[name] for one in rounds]),
            "times": {
                percent: statistics.median(
                    getattr(one.beside[name], percent) / getattr(one.idle[name], percent) for one in rounds
                )
                for percent in _PERCENTILES
            },
        }
        for name in _PROBES
    }
    return {
        "probes": probes,
        "alone": statistics.median(one.seconds_alone for one in rounds),
        "beside": statistics.median(one.seconds_beside for one in rounds),
        "times": statistics.median(one.seconds_beside / one.seconds_alone for one in rounds),
    }


def _medians(found: Sequence[Latency]) -> dict[str, float]:
    return {name: statistics.median(getattr(one, name) for one in found) for name in _PERCENTILES}


def rated_figures(bulk: Mapping[str, Any]) -> Iterator[Figure]:
    """What must hold beside bulk."""
    name = f"beside {_BULK_CONNECTIONS} × {_BULK_TEXTS} texts"
    yield Figure(name, "p99 of a short text", bulk["beside"]["p99"], "ms")
    bound = f"its share of {TIMES_IDLE} × idle p99 + a micro-batch, {bulk['bound']:.0f} ms"
    yield Figure(name, bound, bulk["p99_of_bound"], "", at_most=1.0)
    yield Figure(name, "bulk keeps of its throughput", bulk["kept"], "", at_least=BULK_KEEPS)


def bulk_table(figures: Mapping[str, Any]) -> str:
    """The summary for people."""
    rows = [["one short text", "p50 ms", "p95 ms", "p99 ms", "max ms"]]
    for name, phase in (("on the idle server", "idle"), ("beside bulk", "beside")):
        rows.append([name, *(f"{figures[phase][percent]:.1f}" for percent in _PERCENTILES)])
    says = {name: "holds" if it_does else "DOES NOT HOLD" for name, it_does in figures["holds"].items()}
    return "\n".join(
        [
            *aligned(rows),
            f"  bound for p99: {TIMES_IDLE} x {figures['idle']['p99']:.1f} ms + one micro-batch of "
            f"{figures['micro_batch']:.1f} ms = {figures['bound']:.1f} ms; p99 is {figures['p99_of_bound']:.2f} of it: "
            f"{says['latency']}",
            f"  bulk: {figures['tokens_alone']:,.0f} tokens/s without, {figures['tokens_beside']:,.0f} with the "
            f"probe, {figures['kept']:.3f} (at least {BULK_KEEPS:.2f}): {says['throughput']}",
            f"  with the probe's own tokens {figures['kept_in_all']:.3f}; {figures['probes']:.0f} probes/s, and each "
            f"takes as long as {figures['lost_per_probe']:.0f} tokens of bulk",
        ]
    )


def document_table(figures: Mapping[str, Any]) -> str:
    """The summary for people."""
    rows = [["probe", "beside", "p50 ms", "p95 ms", "p99 ms", "max ms", "p50 ×", "p95 ×", "p99 ×"]]
    for probe, one in figures["probes"].items():
        for phase, name in (("idle", "nothing"), ("beside", "document")):
            milliseconds = [f"{one[phase][percent]:.1f}" for percent in _PERCENTILES]
            times = [f"{one['times'][percent]:.1f}" if phase == "beside" else "" for percent in _PERCENTILES[:3]]
            rows.append([probe, name, *milliseconds, *times])
    seconds = (
        f"  the document: {figures['alone']:.2f} s alone, {figures['beside']:.2f} s beside the probes "
        f"({figures['times']:.2f} ×)"
    )
    return "\n".join([*aligned(rows), seconds])


_say = partial(command.say, "fairness")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("fairness", lambda: asyncio.run(_measure(options)))


async def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "fairness")
    folder = find_bundle(options.model, _say)
    bundle = read_bundle(folder)
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), _SEED)
    serve_options = [*_SERVE_OPTIONS, *options.serve_options]
    bulk: list[BulkRound] = []
    documents: list[DocumentRound] = []
    with embedserve(folder, serve_options) as server:
        bench = _Bench(server, texts, options.seconds, options.pause / 1e3, options.characters)
        for number in range(options.rounds):
            _say(f"round {number + 1}: bulk")
            bulk.append(await bench.bulk())
            if options.characters:
                _say(f"round {number + 1}: document")
                documents.append(await bench.document(number))
    found = {"bulk": bulk_summary(bulk)} | ({"document": document_summary(documents)} if documents else {})
    details = {
        "machine": {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()},
        "setup": {"model": bundle.model_id, "precision": bundle.precision, "serve_options": serve_options}
        | {"seconds": options.seconds, "pause": options.pause, "characters": options.characters},
        "summary": found,
        "rounds": {"bulk": [asdict(one) for one in bulk], "document": [asdict(one) for one in documents]},
    }
    figures.write_json(path, rated_figures(found["bulk"]), details)
    print(bulk_table(found["bulk"]))
    if documents:
        print("\n" + document_table(found["document"]))
    print(f"\nMedians of {len(bulk)} rounds; every round: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("fairness", _HELP, _EXAMPLES)
    command.add_rounds(parser)
    command.add_seconds(parser, 5.0, "of each window that is measured")
    parser.add_argument(
        "--pause",
        type=command.number(float),
        default=50.0,
        help="ms between a probe's answer and its next (default: %(default)g)",
    )
    parser.add_argument(
        "--characters", type=command.number(int), default=1_000_000, help="of the document (default: 1000000)"
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
