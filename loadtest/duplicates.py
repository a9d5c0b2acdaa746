"""What many clients that ask for the same texts at the same time cost: identical inputs are to be computed once."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from loadtest import command, figures, generator
from loadtest.client import Job, Result
from loadtest.figures import Figure
from loadtest.generator import checked
from loadtest.report import aligned, machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import SINGLES, Text, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

_CONNECTIONS = 64
_DISTINCT = 20_000  # more than are sent in a window, so that none is asked for twice
_POPULAR = 8
_CACHE_BYTES = 64 * 2**20

_HELP = f"""\
One text of 8-24 tokens a request over {_CONNECTIONS} connections, on servers of this command's own:

  distinct  every text is another
  same      all connections ask for the same {_POPULAR} texts, over and over
  cached    the same, of a server with --cache-bytes {_CACHE_BYTES}

Rounds take turns; the table shows medians.
"""

_say = partial(command.say, "duplicates")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("duplicates", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "duplicates")
    folder = find_bundle(options.model, _say)
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), SEED)
    distinct, popular = texts.draw(_DISTINCT, SINGLES), texts.draw(_POPULAR, SINGLES)
    rounds = []
    cache = "--cache-bytes", str(_CACHE_BYTES)
    with (
        embedserve(folder, options.serve_options) as plain,
        embedserve(folder, [*options.serve_options, *cache]) as cached,
    ):
        loads = {"distinct": (plain, distinct), "same": (plain, popular), "cached": (cached, popular)}
        for number in range(options.rounds):
            _say(f"round {number + 1}")
            order = list(loads)[:: 1 if number % 2 == 0 else -1]
            rounds.append({name: _load(*loads[name], options.seconds) for name in order})
    found = summary(rounds)
    details = {
        "machine": machine(),
        "summary": found,
        "rounds": [{name: asdict(result) for name, result in one.items()} for one in rounds],
    }
    figures.write_json(path, rated_figures(found), details)
    print(_table(found))
    print(f"\nMedians of {len(rounds)} rounds; every round: {path}")


def _load(server: Server, texts: Sequence[Text], seconds: float) -> Result:
    """Raises MeasurementError."""
    job = Job(
        host=server.host,
        port=server.port,
        path=PATH,
        connections=_CONNECTIONS,
        seconds=seconds,
        bodies=[body_of([text], "base64") for text in texts],
        tokens=[len(text.ids) for text in texts],
        server_pid=server.pid,
    )
    return checked(generator.run(job))


def summary(rounds: Sequence[Mapping[str, Result]]) -> dict[str, dict[str, float]]:
    """Medians over the rounds; `times` are ratios to the distinct texts', taken within each round."""
    return {
        name: {
            "requests_per_second": statistics.median(one[name].requests_per_second for one in rounds),
            "p50": statistics.median(one[name].p50 for one in rounds),
            "p99": statistics.median(one[name].p99 for one in rounds),
            "times": statistics.median(
                one[name].requests_per_second / one["distinct"].requests_per_second for one in rounds
            ),
        }
        for name in ("distinct", "same", "cached")
    }


def rated_figures(found: Mapping[str, Mapping[str, float]]) -> Iterator[Figure]:
    """How many times as many requests are answered."""
    yield Figure(
        "duplicates", f"{_POPULAR} texts over {_CONNECTIONS} connections ÷ distinct", found["same"]["times"], "×"
    )


def _table(found: Mapping[str, Mapping[str, float]]) -> str:
    rows = [["texts", "requests/s", "p50 ms", "p99 ms", "×"]]
    for name, one in found.items():
        rate = f"{one['requests_per_second']:,.0f}"
        rows.append([name, rate, f"{one['p50']:.2f}", f"{one['p99']:.2f}", f"{one['times']:.2f}"])
    return "\n".join(aligned(rows))


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("duplicates", _HELP)
    command.add_seconds(parser, 2.0, "of each load in each round")
    command.add_rounds(parser)
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
