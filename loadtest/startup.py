"""`python -m loadtest.startup`: how long a server takes to be ready, what it imports, and what memory it has then."""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from loadtest import command, figures
from loadtest.figures import Figure
from loadtest.local import urlopen
from loadtest.process_watch import memory_of
from loadtest.report import aligned, machine
from loadtest.server import embedserve, find_bundle

_LISTED = 12  # packages
_WARM_UP = 5  # requests of each kind, eight texts each
_TEXTS = {"short": "What does a start take?", "long": "What does a start take? " * 100}
_NAMES = ("ready s", "start MB", "warm MB")
_READY_AT_MOST, _WARM_AT_MOST = 1.0, 350.0  # seconds, MB
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)")

_HELP = """\
Starts servers with a cached bundle, one after the other, on free ports.

  ready   seconds from the process's start to its line on stdout: from then on it answers with vectors
  start   MB of memory (RSS) at that moment
  warm    MB after some requests, short texts and long ones
  import  milliseconds by package, without what each imports of others, measured by Python in one more start
"""

_say = partial(command.say, "startup")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("startup", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "startup")
    bundle = find_bundle(options.model, _say)
    starts = [_start(bundle, options.serve_options) for _ in range(options.starts)]
    columns = dict(zip(_NAMES, zip(*starts, strict=True), strict=True))
    rows = [[name, f"{statistics.median(one):.2f}", f"{max(one):.2f}"] for name, one in columns.items()]
    print("\n".join(aligned([["", "median", "max"], *rows])))
    imports = _imports(bundle)
    print(f"\nimports: {sum(imports.values()):.0f} ms, of which")
    most = sorted(imports.items(), key=lambda one: -one[1])[:_LISTED]
    print("\n".join(aligned([[name, f"{milliseconds:.0f}"] for name, milliseconds in most])))
    details = {"machine": machine(), "starts": columns, "imports_milliseconds": dict(imports)}
    figures.write_json(path, _figures(columns), details)
    print(f"\nOf {len(starts)} starts; every figure: {path}")


def _figures(columns: Mapping[str, Sequence[float]]) -> Iterator[Figure]:
    ready, start, warm = (statistics.median(columns[name]) for name in _NAMES)
    yield Figure("start", "until ready", ready, "s", at_most=_READY_AT_MOST)
    yield Figure("start", "until ready, slowest", max(columns["ready s"]), "s")
    yield Figure("start", "resident memory then", start, "MB")
    yield Figure("start", "resident memory after warm-up", warm, "MB", at_most=_WARM_AT_MOST)


def _start(bundle: Path, options: Sequence[str]) -> tuple[float, float, float]:
    """Seconds until it is ready, MB then, MB after a few requests."""
    started = time.perf_counter()
    with embedserve(bundle, options) as server:
        seconds = time.perf_counter() - started
        before = memory_of(server.pid)
        for text in _TEXTS.values():
            for _ in range(_WARM_UP):
                _ask(f"http://{server.host}:{server.port}/v1/embeddings", text)
        return seconds, before, memory_of(server.pid)


def _ask(url: str, text: str) -> None:
    """Raises OSError where it is not answered with 200."""
    request = urllib.request.Request(
        url, json.dumps({"input": [text] * 8}).encode(), {"content-type": "application/json"}
    )
    with urlopen(request, 60.0) as reply:
        reply.read()


def _imports(bundle: Path) -> Mapping[str, float]:
    """Milliseconds by top-level package. Raises RuntimeError."""
    with embedserve(bundle, interpreter=[sys.executable, "-X", "importtime"]) as server:
        errors = server.errors.read_text("utf-8")
    found: dict[str, float] = defaultdict(float)
    for microseconds, package in _IMPORT.findall(errors):
        found[package] += int(microseconds) / 1000
    return found


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("startup", _HELP, model="a bundle, or what `serve` takes")
    parser.add_argument("--starts", type=command.number(int, 1), default=10, help="(default: %(default)s)")
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
