"""Whether a long document or a bulk request delays short ones: their latency with and without.

One process, because hardly anything is sent: probes (one short text, and GET /livez) every few milliseconds, beside
nothing, beside one long document, and beside bulk requests. The phases take turns in rounds, so that a machine that
is busy elsewhere disturbs all of them; the table shows medians over the rounds, and ratios taken within them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import service
from loadtest import command
from loadtest.bench import RESULTS
from loadtest.client import percentile
from loadtest.command import MeasurementError
from loadtest.report import aligned, machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import BULK, SINGLES, Texts
from service.bundle import TOKENIZER_JSON, read_bundle
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL
from service.tokenizer import Tokenizer

_SEED = 20_240_229
_PAUSE = 0.010  # seconds between a probe's answer and the next one: probes must not be a load themselves
_SHORT_TEXTS = 20_000  # drawn once; more probes than that begin again
_BULK_TEXTS = 64  # a request
_BULK_REQUESTS = 100
_BULK_CONNECTIONS = 4
_SETTLE = 0.5  # seconds between the beginning of a load and that of the probes
_PATH = "/v1/embeddings"
# The document is larger than what a request may be by default.
_SERVE_OPTIONS = ("--max-request-tokens", "600000", "--max-body-bytes", "8000000", "--request-timeout", "300")
_PHASES = ("nothing", "document", "bulk")
_PROBES = ("text", "livez")

_HELP = """\
Measure how long short requests wait beside long ones, on a server of its own.

Probes, each on a connection of its own, one request at a time, 10 ms after the last one's answer (percentiles
count those that would have been sent while one waited):
  text        one text of 8-24 tokens to /v1/embeddings
  livez       GET /livez

and beside them, in turns:
  nothing     no other load
  document    one document of --characters (Python's documentation) as one input
  bulk        64 texts of 8-250 tokens a request, 4 connections

The table has the probes' latencies and their ratios to those beside nothing, and the document's own seconds with
and without probes: short requests must not starve it. Any status but 200 ends the run with exit status 1.
"""
_EXAMPLES = """\
examples:
  python -m loadtest.fairness
  python -m loadtest.fairness --rounds 1 --characters 200000         (a quick look)
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
    def of(cls, seconds: Sequence[float]) -> Latency:
        """From every answer's time."""
        found = [1e3 * one for answer in seconds for one in _as_if_sent_all_the_time(answer)]
        p50, p95, p99, most = (percentile(found, percent) for percent in (50, 95, 99, 100))
        return cls(p50, p95, p99, most, len(seconds))


def _as_if_sent_all_the_time(seconds: float) -> Iterator[float]:
    """A probe that waits sends no other; those that would have come meanwhile would have waited for the rest.

    Without them ("coordinated omission", as HdrHistogram's expected interval has it) one wait of 40 s beside a
    hundred of 10 ms would be a percentile that nobody looks at.
    """
    yield seconds
    while (seconds := seconds - _PAUSE) > 0:
        yield seconds


@dataclass(frozen=True, slots=True)
class Round:
    """Everything measured once: latencies by phase and probe; seconds of the document with and without probes."""

    probes: Mapping[str, Mapping[str, Latency]]
    document_alone: float
    document_beside: float


class _Connection:
    """Keep-alive; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def exchange(self, request: bytes) -> float:
        """Seconds to the last byte of the answer. Raises MeasurementError where it is no 200."""
        begin = time.perf_counter()
        self._writer.write(request)
        try:
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            body = await self._reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        except (OSError, EOFError, IndexError) as error:
            raise MeasurementError(f"no answer: {error!r}") from None
        if head[9:12] != b"200":
            raise MeasurementError(f"not every answer is a 200: {(head + body)[:500].decode('utf-8', 'replace')}")
        return time.perf_counter() - begin


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[_Connection]:
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield _Connection(reader, writer)
    finally:
        writer.transport.abort()


class _Rounds:
    """Measures rounds against one server."""

    def __init__(self, server: Server, texts: Texts, seconds: float, characters: int) -> None:
        self._server = server
        self._seconds = seconds
        self._short = cycle([_post(one.content) for one in texts.draw(_SHORT_TEXTS, SINGLES)])
        drawn = texts.draw(_BULK_REQUESTS * _BULK_TEXTS, BULK)
        requests = [drawn[i : i + _BULK_TEXTS] for i in range(0, len(drawn), _BULK_TEXTS)]
        self._bulk = cycle([_post([one.content for one in request]) for request in requests])
        self._document = _post(_document(characters))

    async def measure(self, number: int) -> Round:
        """The document alone comes last in even rounds and first in odd ones, so that a slow drift favours neither."""
        probes: dict[str, dict[str, Latency]] = {}
        alone = await self._document_alone() if number % 2 else 0.0
        _say(f"round {number + 1}: nothing")
        probes["nothing"] = await self._probe_beside(asyncio.sleep(self._seconds + _SETTLE))
        _say(f"round {number + 1}: document")
        begin = time.perf_counter()
        probes["document"] = await self._probe_beside(self._post_document())
        beside = time.perf_counter() - begin
        _say(f"round {number + 1}: bulk")
        probes["bulk"] = await self._probe_beside(self._post_bulk())
        return Round(probes, alone or await self._document_alone(), beside)

    async def _document_alone(self) -> float:
        _say("the document alone")
        begin = time.perf_counter()
        await self._post_document()
        return time.perf_counter() - begin

    async def _probe_beside(self, load: Awaitable[None]) -> dict[str, Latency]:
        """Probes for as long as the load lasts."""
        under_way = asyncio.ensure_future(load)
        await asyncio.sleep(_SETTLE)
        requests = (self._short, cycle([_get("/livez")]))
        found = await asyncio.gather(*(self._probe(one, under_way) for one in requests))
        await under_way
        return dict(zip(_PROBES, map(Latency.of, found), strict=True))

    async def _probe(self, requests: Iterator[bytes], load: asyncio.Future[None]) -> list[float]:
        found: list[float] = []
        async with _connected(self._server) as connection:
            while not load.done():
                found.append(await connection.exchange(next(requests)))
                await asyncio.sleep(_PAUSE)
        return found

    async def _post_document(self) -> None:
        async with _connected(self._server) as connection:
            await connection.exchange(self._document)

    async def _post_bulk(self) -> None:
        end = time.perf_counter() + _SETTLE + self._seconds

        async def client() -> None:
            async with _connected(self._server) as connection:
                while time.perf_counter() < end:
                    await connection.exchange(next(self._bulk))

        await asyncio.gather(*(client() for _ in range(_BULK_CONNECTIONS)))


def _document(characters: int) -> str:
    """Real prose, as often as it takes."""
    prose = "\n\n".join(topics.values())
    return (prose * (characters // len(prose) + 1))[:characters]


def _post(content: str | list[str]) -> bytes:
    body = json.dumps({"input": content, "encoding_format": "base64"}, ensure_ascii=False).encode()
    head = f"POST {_PATH} HTTP/1.1\r\nhost: embedserve\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: embedserve\r\n\r\n".encode()


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians over the rounds; `times` are the ratios to the latencies beside nothing, taken within each round."""
    probes: dict[str, Any] = {probe: {} for probe in _PROBES}
    for probe in _PROBES:
        for phase in _PHASES:
            found = [asdict(one.probes[phase][probe]) for one in rounds]
            quiet = [asdict(one.probes["nothing"][probe]) for one in rounds]
            names = ("p50", "p95", "p99", "max")
            probes[probe][phase] = {name: statistics.median(one[name] for one in found) for name in names}
            probes[probe][phase]["times"] = {
                name: statistics.median(one[name] / other[name] for one, other in zip(found, quiet, strict=True))
                for name in names
            }
    document = {
        "alone": statistics.median(one.document_alone for one in rounds),
        "beside": statistics.median(one.document_beside for one in rounds),
        "times": statistics.median(one.document_beside / one.document_alone for one in rounds),
    }
    return {"probes": probes, "document": document}


def table(figures: Mapping[str, Any]) -> str:
    """The summary for people."""
    rows = [["probe", "beside", "p50 ms", "p95 ms", "p99 ms", "max ms", "p50 ×", "p95 ×", "p99 ×"]]
    for probe, phases in figures["probes"].items():
        for phase, one in phases.items():
            milliseconds = [f"{one[name]:.2f}" for name in ("p50", "p95", "p99", "max")]
            times = [f"{one['times'][name]:.1f}" for name in ("p50", "p95", "p99")]
            rows.append([probe, phase, *milliseconds, *times])
    document = figures["document"]
    return "\n".join(
        [
            *aligned(rows),
            "",
            f"The document: {document['alone']:.2f} s alone, {document['beside']:.2f} s beside the probes "
            f"({document['times']:.2f} ×)",
        ]
    )


_say = partial(command.say, "fairness")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("fairness", lambda: asyncio.run(_measure(options)))


async def _measure(options: argparse.Namespace) -> None:
    folder = find_bundle(options.model, _say)
    bundle = read_bundle(folder)
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), _SEED)
    serve_options = [*_SERVE_OPTIONS, *options.serve_options]
    with embedserve(folder, serve_options) as server:
        bench = _Rounds(server, texts, options.seconds, options.characters)
        rounds = [await bench.measure(number) for number in range(options.rounds)]
    figures = summary(rounds)
    content = {
        "machine": {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()},
        "setup": {"model": bundle.model_id, "precision": bundle.precision, "serve_options": serve_options}
        | {"seconds": options.seconds, "characters": options.characters},
        "summary": figures,
        "rounds": [asdict(one) for one in rounds],
    }
    path = options.json or RESULTS / time.strftime("fairness-%Y%m%d-%H%M%S.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print(table(figures))
    print(f"\nMedians of {len(rounds)} rounds; every round: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.fairness",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what to serve (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=5.0, help="of the probes beside nothing and beside bulk (default: %(default)g)"
    )
    parser.add_argument(
        "--characters", type=int, default=1_000_000, help="of the document, which sets its own time (default: 1000000)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="for every figure (default: a new file in results/)")
    parser.add_argument("serve_options", nargs="*", metavar="-- OPTION", help="options of `embedserve serve`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
