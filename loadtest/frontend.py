"""`python -m loadtest.frontend`: what the server itself takes for a request, with an encoder that costs nothing."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from loadtest import client, command
from loadtest.client import Job, Result
from loadtest.command import MeasurementError
from loadtest.null_bundle import write_null_bundle
from loadtest.report import aligned
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import SINGLES, Text, Texts
from service.bundle import TOKENIZER_JSON
from service.settings import DEFAULT_MODEL
from service.tokenizer import Tokenizer

_SEED = 20_240_229
_TEXTS = 4_000  # sent over and over: nothing remembers them
_CONNECTIONS = (1, 8, 64)

_HELP = """\
One text of 8-24 tokens a request to /v1/embeddings, really tokenised, on a bundle whose graph looks a vector up. The
server has one core, and the load generator the others.

  CPU µs     of all the server's threads, for one request: the figure to compare, as it hardly depends on the load
  tokenising of one such text alone, in this process: the part that no server can save
"""

_say = partial(command.say, "frontend")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("frontend", lambda: _measure_null(options))


def _measure_null(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="embedserve-null-") as folder:
        _measure(options, Path(folder))


def _measure(options: argparse.Namespace, folder: Path) -> None:
    source = find_bundle(options.model, _say)
    write_null_bundle(source, folder)
    tokenizer = Tokenizer(source / TOKENIZER_JSON)
    texts = Texts(tokenizer, _SEED).draw(_TEXTS, SINGLES)
    rows = []
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        with _on_cores(cores[:1]):
            server = stack.enter_context(embedserve(folder, options.serve_options))
        stack.enter_context(_on_cores(cores[1:] or cores))
        for connections in _CONNECTIONS:
            _say(f"{connections} connections")
            rows.append(_row(connections, _load(connections, texts, server, options.seconds)))
    heads = ["connections", "requests/s", "CPU µs", "p50 ms", "p99 ms", "client CPU s"]
    print("\n".join(aligned([heads, *rows])))
    print(f"\nTokenising one text alone: {_tokenising(tokenizer, texts):.0f} µs")


def _load(connections: int, texts: Sequence[Text], server: Server, seconds: float) -> Result:
    """Raises MeasurementError."""
    bodies = [json.dumps({"input": text.content, "encoding_format": "base64"}) for text in texts]
    tokens = [len(text.ids) for text in texts]
    job = Job(server.host, server.port, "/v1/embeddings", connections, seconds, bodies, tokens, server_pid=server.pid)
    result = client.run(job)
    if result.failures:
        raise MeasurementError(f"not every answer is a 200: {result.failures}, {result.first_failure}")
    return result


def _row(connections: int, result: Result) -> list[str]:
    requests = result.requests_per_second * result.seconds
    return [
        str(connections),
        f"{result.requests_per_second:,.0f}",
        f"{1e6 * (result.server_cpu or 0.0) / requests:.0f}",
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


@contextlib.contextmanager
def _on_cores(cores: Sequence[int]) -> Iterator[None]:
    """For this process, and for those that it starts meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.frontend", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="whose tokenizer is used (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default: %(default)g)")
    parser.add_argument("serve_options", nargs="*", metavar="-- OPTION", help="options of `embedserve serve`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
