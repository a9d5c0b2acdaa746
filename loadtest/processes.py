"""`python -m loadtest.processes`: what more processes on one port bring, and cost."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from loadtest import command, figures, generator
from loadtest.client import Job, Result, cpu_seconds
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.generator import checked
from loadtest.local import urlopen
from loadtest.null_bundle import write_null_bundle
from loadtest.report import aligned, machine
from loadtest.server import Server, embedserve, find_bundle, real_tokens
from loadtest.texts import BULK, SINGLES, Mix, Text, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

_WARM_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_PATIENCE = 120.0  # seconds until every process must have loaded the model

_HELP = """\
The same loads on one server with as many processes as --processes says, one number after the other, in --rounds turns:

  singles    one text of 8-24 tokens a request
  bulk       64 texts of 8-250 tokens a request

Tokens are those that the server computed, whether or not their requests ended in time.
wrk (or the Python client, where there is none) runs on the last core, which the server may use as well: on a machine
of two cores that is half of what there is.
"""
_EXAMPLES = """\
examples:
  python -m loadtest.processes --processes 1,2 --null                  (an encoder that costs nothing)
  python -m loadtest.processes --model minilm-cuda -- --device cuda    (a small model on a GPU)
"""

_say = partial(command.say, "processes")


@dataclass(frozen=True, slots=True)
class _Load:
    name: str
    mix: Mix
    texts: int  # a request
    connections: int  # for each process
    requests: int  # that are sent over and over: nothing remembers them


_LOADS = (_Load("singles", SINGLES, 1, 64, 4_000), _Load("bulk", BULK, 64, 16, 200))


@dataclass(frozen=True, slots=True)
class _Found:
    """Of one load on one number of processes."""

    processes: int
    load: str
    result: Result
    tokens: float  # computed in a second, padding not counted
    cores: float  # that all the server's processes took


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("processes", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "processes")
    source = find_bundle(options.model, _say)
    texts = Texts(Tokenizer(source / TOKENIZER_JSON), SEED)
    requests = {load.name: _drawn(texts, load) for load in _LOADS}
    found: list[_Found] = []
    with tempfile.TemporaryDirectory(prefix="embedserve-null-") as folder:
        if options.null:
            write_null_bundle(source, Path(folder))
        bundle = Path(folder) if options.null else source
        for _ in range(options.rounds):
            for processes in options.processes:
                _say(f"{processes} processes")
                with _ready(bundle, processes, options.serve_options) as server:
                    found += [_run(server, processes, load, requests[load.name], options.seconds) for load in _LOADS]
    details = {"machine": machine(), "results": [asdict(one) for one in found]}
    figures.write_json(path, (Figure(*_figure(one)) for one in found), details)
    heads = ["processes", "load", "requests/s", "tokens/s", "p50 ms", "p99 ms", "cores", "CPU µs a token"]
    print("\n".join(aligned([heads, *map(_row, found)])))
    print(f"\nEvery figure: {path}")


def _drawn(texts: Texts, load: _Load) -> list[list[Text]]:
    drawn = texts.draw(load.requests * load.texts, load.mix)
    return [drawn[first : first + load.texts] for first in range(0, len(drawn), load.texts)]


@contextlib.contextmanager
def _ready(bundle: Path, processes: int, serve_options: Sequence[str]) -> Iterator[Server]:
    """All of its processes are. Raises MeasurementError, OSError."""
    with embedserve(bundle, ["--processes", str(processes), *serve_options]) as server:
        give_up = time.monotonic() + _PATIENCE
        while _ready_processes(server) < processes:
            if time.monotonic() > give_up:
                raise MeasurementError(f"not all of {processes} processes were ready within {_PATIENCE:g} s")
            time.sleep(0.1)
        yield server


def _ready_processes(server: Server) -> int:
    with urlopen(f"http://{server.host}:{server.port}/metrics", _ANSWER_SECONDS) as reply:
        lines = reply.read().decode().splitlines()
    return sum(line.startswith("embedserve_ready") and line.endswith(" 1.0") for line in lines)


def _run(server: Server, processes: int, load: _Load, requests: Sequence[Sequence[Text]], seconds: float) -> _Found:
    """Raises MeasurementError."""
    bodies = [body_of(request, "base64") for request in requests]
    sizes = [sum(len(text.ids) for text in request) for request in requests]
    job = Job(server.host, server.port, PATH, load.connections * processes, seconds, bodies, sizes, warmup=0)
    generator.run(replace(job, seconds=_WARM_SECONDS))
    before, cpu, began = real_tokens(server.counters()), _cpu_seconds(server.pid), time.monotonic()
    result = checked(generator.run(job), f"{processes} processes, {load.name}")
    took, cpu = time.monotonic() - began, _cpu_seconds(server.pid) - cpu
    return _Found(processes, load.name, result, (real_tokens(server.counters()) - before) / took, cpu / took)


def _cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return sum(cpu_seconds(one) or 0.0 for one in (pid, *map(int, children)))


def _figure(one: _Found) -> tuple[str, str, float, str]:
    return f"{one.processes} processes", one.load, one.result.requests_per_second, "requests/s"


def _row(one: _Found) -> list[str]:
    result = one.result
    return [
        str(one.processes),
        one.load,
        f"{result.requests_per_second:,.0f}",
        f"{one.tokens:,.0f}",
        f"{result.p50:.2f}",
        f"{result.p99:.2f}",
        f"{one.cores:.1f}",
        f"{1e6 * one.cores / one.tokens:.1f}",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("processes", _HELP, _EXAMPLES, model="what to serve, or whose tokenizer is used")
    parser.add_argument("--null", action="store_true", help="an encoder that costs nothing in place of the model")
    parser.add_argument(
        "--processes", type=_numbers, default=[1, 2, 4], metavar="N,…", help="numbers to measure (default: 1,2,4)"
    )
    command.add_seconds(parser, 5.0, "of each load")
    command.add_rounds(parser, 1)
    command.add_json(parser)
    return parser


def _numbers(text: str) -> list[float]:
    return list(map(command.number(int, 1), text.split(",")))


if __name__ == "__main__":
    sys.exit(main())
