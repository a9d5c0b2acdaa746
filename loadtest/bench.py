"""`make bench`: runs every benchmark there is, and puts their figures into one table, one file and one plot.

Each part is a command of its own (`python -m loadtest.PART --json FILE`), which starts and stops its own servers and
writes a list of figures with their targets. They run one after the other.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import service
from loadtest import command, figures
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.plots import Lines, lines
from loadtest.report import machine
from loadtest.server import stop
from loadtest.wrk import available as have_wrk
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL

_PART_SECONDS = 240  # until a part is given up
_LEAVE_SECONDS = 60  # that it then has to stop its servers, two of them at most


@dataclass(frozen=True, slots=True)
class Part:
    """A module of `loadtest` and its options, chosen so that all parts together end within six minutes."""

    module: str
    options: Sequence[str]


PARTS = (
    Part("startup", ("--starts", "3")),
    Part("throughput", ("--seconds", "4")),
    Part("concurrency", ("--seconds", "1")),
    Part("frontend", ("--seconds", "3")),
    Part("fairness", ("--seconds", "2", "--rounds", "3", "--characters", "0")),
    Part("duplicates", ("--seconds", "1")),
)

_HELP = """\
Run every benchmark, each on servers of its own, started and stopped by this command; under six minutes.
Prints all figures beside their targets, and writes a JSON file and a plot. `python -m loadtest.PART --help` says what
a part measures, and how it is run alone. Where a part fails the others are measured all the same; the exit status is 1.
"""

_say = partial(command.say, "bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, whether targets are met or not; 1 where something could not be measured."""
    options = _parser().parse_args(arguments)
    return command.run("bench", lambda: _bench(options))


def _bench(options: argparse.Namespace) -> None:
    started = time.monotonic()
    path = command.results_file(options.json, "bench")
    rated: list[Figure] = []
    details: dict[str, Any] = {}
    failed: list[str] = []
    for part in PARTS:
        if part.module in options.only:
            _say(part.module)
            try:
                found, details[part.module] = _run(part, options.model)
            except MeasurementError as error:
                _say(str(error))
                failed.append(part.module)
            else:
                rated += found
    about = {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()}
    figures.write_json(path, rated, {"machine": about, "parts": details})
    print(figures.table(rated))
    print(f"\n{about['cpu']}, {about['cores']} cores; {time.monotonic() - started:.0f} s in all; every round: {path}")
    if "concurrency" in details:
        plot = path.with_suffix(".svg")
        plot.write_text(_plot(details), "utf-8")
        print(f"Throughput and latency by connections: {plot}")
    if not have_wrk():
        print("wrk is not installed: its loads came from the Python client, which takes more of the server's cores.")
    if failed:
        raise MeasurementError(f"not measured: {', '.join(failed)}")


def _run(part: Part, model: str) -> tuple[list[Figure], dict[str, Any]]:
    """What a part found. Raises MeasurementError where it ended with anything but figures."""
    with tempfile.TemporaryDirectory(prefix="embedserve-bench-") as folder, contextlib.ExitStack() as stack:
        path = Path(folder, "figures.json")
        arguments = ["--model", model, "--json", str(path), *part.options]
        with command.undisturbed():
            process = subprocess.Popen([sys.executable, "-m", f"loadtest.{part.module}", *arguments], stdout=sys.stderr)
            stack.callback(stop, process, _LEAVE_SECONDS)  # which stops the servers that it has started
        try:
            status = process.wait(_PART_SECONDS)
        except subprocess.TimeoutExpired:
            raise MeasurementError(f"{part.module} did not end within {_PART_SECONDS} s") from None
        if status:
            raise MeasurementError(f"{part.module} ended with exit status {status}")
        return figures.read_json(path)


def _plot(details: Mapping[str, Any]) -> str:
    points = details["concurrency"]["points"]
    x = [int(connections) for connections in points]
    level = None
    if "throughput" in details:
        level = "R", details["throughput"]["summary"]["raw"]["singles fp32"]["texts_per_second"]
    rate = Lines(
        "Throughput", "requests per second", {"served": [p["requests_per_second"] for p in points.values()]}, level
    )
    latency = Lines("Latency", "milliseconds", {name: [p[name] for p in points.values()] for name in ("p50", "p99")})
    return lines("One text of 8 to 24 tokens a request", "connections", x, [rate, latency])


def _parser() -> argparse.ArgumentParser:
    parts = [part.module for part in PARTS]
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what to serve (default: %(default)s)")
    parser.add_argument(
        "--only", type=command.some_of(parts), default=parts, metavar="PARTS", help=f"some of {','.join(parts)}"
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
