"""`python -m loadtest.frontend`: what the server itself takes for a request, with an encoder that costs nothing."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial

from loadtest import command, figures, generator
from loadtest.client import Job, Result
from loadtest.figures import Figure
from loadtest.generator import checked
from loadtest.null_bundle import null_server
from loadtest.report import aligned, machine
from loadtest.server import Server, find_bundle
from loadtest.texts import SINGLES, Text, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

_TEXTS = 4_000  # sent over and over: vectors are not remembered, but words are
_CONNECTIONS = (1, 8, 64)
_AT_LEAST = 10_000.0  # requests per second

_HELP = """\
One text of 8-24 tokens a request to /v1/embeddings, really tokenised, on a bundle whose graph looks a vector up, tuned
for that (`embedserve tune --quick`). The server has one core, and the load generator the others.

  CPU µs     of all the server's threads, for one request: the figure to compare, as it hardly depends on the load
  tokenising of one such text alone, in this process, by the server's own code. The texts come again and again, so that
             here as in the server their words are known after the first time; new words take longer
"""

_say = partial(command.say, "frontend")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("frontend", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "frontend")
    source = find_bundle(options.model, _say)
    tokenizer = Tokenizer(source / TOKENIZER_JSON)
    texts = Texts(tokenizer, SEED).draw(_TEXTS, SINGLES)
    results = {}
    with null_server(source, options.serve_options) as server:
        for connections in _CONNECTIONS:
            _say(f"{connections} connections")
            results[connections] = _load(connections, texts, server, options.seconds)
    tokenising = _tokenising(tokenizer, texts)
    details = {"machine": machine(), "results": {connections: asdict(one) for connections, one in results.items()}}
    figures.write_json(path, _figures(results, tokenising), details)
    heads = ["connections", "requests/s", "CPU µs", "p50 ms", "p99 ms", "client CPU s"]
    print("\n".join(aligned([heads, *(_row(connections, one) for connections, one in results.items())])))
    print(f"\nTokenising one text alone: {tokenising:.0f} µs; every figure: {path}")


def _figures(results: Mapping[int, Result], tokenising: float) -> Iterator[Figure]:
    name = "front end, one core"
    most = max(results)
    yield Figure(name, f"{most} connections", results[most].requests_per_second, "requests/s", at_least=_AT_LEAST)
    yield Figure(name, "server's CPU a request", results[most].server_microseconds, "µs")
    yield Figure(name, "tokenising alone", tokenising, "µs")


def _load(connections: int, texts: Sequence[Text], server: Server, seconds: float) -> Result:
    """Raises MeasurementError."""
    bodies = [body_of([text], "base64") for text in texts]
    tokens = [len(text.ids) for text in texts]
    job = Job(server.host, server.port, PATH, connections, seconds, bodies, tokens, server_pid=server.pid)
    return checked(generator.run(job))


def _row(connections: int, result: Result) -> list[str]:
    return [
        str(connections),
        f"{result.requests_per_second:,.0f}",
        f"{result.server_microseconds:.0f}",
        f"{result.p50:.2f}",
        f"{result.p99:.2f}",
        f"{result.client_cpu:.1f}",
    ]


def _tokenising(tokenizer: Tokenizer, texts: Sequence[Text]) -> float:
    """Microseconds."""
    started = time.perf_counter()
    for text in texts:
        tokenizer.encode([text.content], [""], 254)
    return 1e6 * (time.perf_counter() - started) / len(texts)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("frontend", _HELP, model="whose tokenizer is used")
    command.add_seconds(parser, 5.0, "of each load")
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
