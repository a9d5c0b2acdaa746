"""Throughput and latency of single texts, by the number of connections that send them."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from loadtest import command, figures, generator
from loadtest.client import Job, Result
from loadtest.figures import Figure
from loadtest.raw import Ceiling
from loadtest.report import aligned, machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import SINGLES, Texts
from loadtest.throughput import BUDGETS, PATH, SAMPLES, SEED, body_of, check
from service.bundle import TOKENIZER_JSON, read_bundle
from service.cores import usable_cores
from service.tokenizer import Tokenizer

CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128)
_SPARE = 1.5  # texts drawn over what the ceiling could use up

_HELP = """\
One text of 8-24 tokens a request over 1, 2, 4, ... 128 connections, on a server of its own. Rounds go up and down in
turns; the table shows medians. A first load, with the most connections, warms up, and some of its answers are compared
with the raw runtime's vectors.
"""

_say = partial(command.say, "concurrency")


@dataclass(frozen=True, slots=True)
class Point:
    """Medians over the rounds: requests per second, milliseconds."""

    requests_per_second: float
    p50: float
    p99: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("concurrency", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "concurrency")
    folder = find_bundle(options.model, _say)
    with embedserve(folder, options.serve_options) as server:
        sweep = _Sweep(folder, server)
        sweep.warm_up()
        rounds = [sweep.measure(number, options.seconds) for number in range(options.rounds)]
    points = medians(rounds)
    details = {
        "machine": machine(),
        "points": {connections: asdict(point) for connections, point in points.items()},
        "rounds": [{connections: asdict(one) for connections, one in results.items()} for results in rounds],
    }
    figures.write_json(path, rated_figures(points), details)
    print(_table(points))
    print(f"\nMedians of {len(rounds)} rounds; every round: {path}")


class _Sweep:
    """Loads one server with more and fewer connections."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._server = server
        self._texts = Texts(Tokenizer(folder / TOKENIZER_JSON), SEED)
        self._ceiling = Ceiling(folder, read_bundle(folder), usable_cores())
        tokens = self._ceiling.tokens(self._texts.draw(256, SINGLES), BUDGETS[0], 0.5).per_second
        self._rate = 2 * tokens / (SINGLES.shortest + SINGLES.longest)  # requests per second

    def warm_up(self) -> None:
        """Raises MeasurementError where answers are wrong."""
        self._load(max(CONNECTIONS), 1.0, warmup=1.0)

    def measure(self, number: int, seconds: float) -> dict[int, Result]:
        """Up in even rounds and down in odd ones, so that a slow drift favours no end."""
        _say(f"round {number + 1}")
        order = CONNECTIONS if number % 2 == 0 else CONNECTIONS[::-1]
        found = {connections: self._load(connections, seconds) for connections in order}
        return dict(sorted(found.items()))

    def _load(self, connections: int, seconds: float, warmup: float = 0.0) -> Result:
        count = 8 * connections + math.ceil(self._rate * (seconds + 1) * _SPARE)
        texts = self._texts.draw(count, SINGLES)
        job = Job(
            host=self._server.host,
            port=self._server.port,
            path=PATH,
            connections=connections,
            seconds=seconds,
            bodies=[body_of([text], "base64") for text in texts],
            tokens=[len(text.ids) for text in texts],
            warmup=warmup,
            sampled=list(range(SAMPLES)) if warmup else (),
            server_pid=self._server.pid,
        )
        result = generator.run(job)
        check(f"{connections} connections", [[text] for text in texts], result, self._ceiling)
        return replace(result, samples={})


def medians(rounds: Sequence[Mapping[int, Result]]) -> dict[int, Point]:
    """By connections."""
    return {connections: _median([one[connections] for one in rounds]) for connections in rounds[0]}


def _median(results: Sequence[Result]) -> Point:
    return Point(
        statistics.median(one.requests_per_second for one in results),
        statistics.median(one.p50 for one in results),
        statistics.median(one.p99 for one in results),
    )


def rated_figures(points: Mapping[int, Point]) -> Iterator[Figure]:
    """The best throughput, and where it is."""
    best = max(points, key=lambda connections: points[connections].requests_per_second)
    yield Figure("concurrency", f"best, at {best} connections", points[best].requests_per_second, "requests/s")
    yield Figure("concurrency", f"p99 at {best} connections", points[best].p99, "ms")


def _table(points: Mapping[int, Point]) -> str:
    rows = [["connections", "requests/s", "p50 ms", "p99 ms"]]
    for connections, one in points.items():
        rows.append([str(connections), f"{one.requests_per_second:,.0f}", f"{one.p50:.2f}", f"{one.p99:.2f}"])
    return "\n".join(aligned(rows))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("concurrency", _HELP)
    command.add_seconds(parser, 2.0, "of each load in each round")
    command.add_rounds(parser)
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
