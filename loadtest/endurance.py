"""`make soak`: the server under the mixed load for half an hour, and whether anything of it grows."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from loadtest import command, load
from loadtest.command import MeasurementError
from loadtest.figures import Figure, table, write_json
from loadtest.load import Load
from loadtest.plots import Lines, lines
from loadtest.process_watch import BLOCKS, Sample, Trend, blocks, look, trend, watched
from loadtest.server import embedserve, find_bundle
from loadtest.thresholds import Thresholds
from service.bundle import read_bundle

_POINTS = 15  # of the plot
_REST = 3.0  # seconds after the load until what it held must be given back
_SPARE = 16  # descriptors and threads that may come with the first requests and stay
_THREADS = 2  # that may come later: those that work beside the event loop come when there is work for them
# What else the machine has to do is no overload of ours: requests may wait for it.
_PATIENT = ("--max-queue-seconds", "60", "--request-timeout", "120")

_HELP = """\
A server of its own, users of every dialect, some of whom err, leave or are in a hurry (everyone.py), and every second
a look at the server's process. What was before the warm-up's end does not count. Exit status 1 where a request got
another answer than it should, or where something grew:

  memory       of the process's own: slope of a straight line, MB an hour, and its 95 % interval; of each half, too.
               The smaller of these two is judged: what leaks grows in both, while an arena that takes its next piece
               does so once, and what fills up grows by less and less
  mapped files weights, libraries: resident pages of the kernel's, which has them back at its need; not judged
  descriptors  and threads: the most in the last fifth of the time, less the most in the first fifth; and what is left
               of them when the load has ended, less what there was before it
"""

_say = partial(command.say, "soak")


class Soaked(NamedTuple):
    """Samples behind the warm-up, and one look at the idle server before the load and after it."""

    samples: list[Sample]
    before: Sample
    after: Sample

    def figures(self, most: float) -> list[Figure]:
        """`most` MB an hour are not too many, where they come in both halves."""
        memory = trend(self.samples, lambda one: one.memory)
        half = len(self.samples) // 2
        early, late = (
            trend(part, lambda one: one.memory, BLOCKS // 2) for part in (self.samples[:half], self.samples[half:])
        )
        parts = blocks(self.samples)
        fifth = BLOCKS // 5
        first, last = parts[:fifth], parts[-fifth:]
        return [
            Figure("memory", "slope in both halves", min(early.slope, late.slope), "MB/hour", at_most=most),
            Figure("memory", "slope", memory.slope, "MB/hour"),
            Figure("memory", "± (95 %)", memory.margin, "MB/hour"),
            Figure("memory", "slope, first half", early.slope, "MB/hour"),
            Figure("memory", "± (95 %), first half", early.margin, "MB/hour"),
            Figure("memory", "slope, last half", late.slope, "MB/hour"),
            Figure("memory", "± (95 %), last half", late.margin, "MB/hour"),
            Figure("memory", "first", parts[0].memory, "MB"),
            Figure("memory", "last", parts[-1].memory, "MB"),
            Figure("mapped files", "first", parts[0].mapped, "MB"),
            Figure("mapped files", "last", parts[-1].mapped, "MB"),
            *_counts("descriptors", [one.descriptors for one in first], [one.descriptors for one in last], _SPARE),
            Figure("descriptors", "left", self.after.descriptors - self.before.descriptors, "", at_most=_SPARE),
            *_counts("threads", [one.threads for one in first], [one.threads for one in last], _THREADS),
            Figure("threads", "left", self.after.threads - self.before.threads, "", at_most=_SPARE),
        ]


def _counts(topic: str, first: Sequence[int], last: Sequence[int], most: int) -> list[Figure]:
    growth = max(last) - max(first)
    return [Figure(topic, "most", max(first), ""), Figure(topic, "growth", growth, "", at_most=most)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("soak", lambda: _soak(options))


def _soak(options: argparse.Namespace) -> None:
    if options.warm_up + BLOCKS > options.seconds:
        raise MeasurementError(
            f"{options.seconds:g} s of load are too few behind {options.warm_up:g} s that do not count"
        )
    report = command.results_file(options.json, "soak")
    found, status, samples = _load(options)
    figures = found.figures(options.max_slope)
    print(table(figures))
    write_json(report, figures, {"seconds": options.seconds, "samples": [one._asdict() for one in samples]})
    if options.svg:
        options.svg.write_text(_plot(samples, trend(found.samples, lambda one: one.memory)), "utf-8")
    if status:
        raise MeasurementError("a request got another answer than it should; the lines above say which")
    if grown := [f"{one.topic}: {one.name} {one.value:.1f} {one.unit}" for one in figures if one.met is False]:
        raise MeasurementError(f"it grew: {', '.join(grown)}")


def _load(options: argparse.Namespace) -> tuple[Soaked, int, list[Sample]]:
    html = command.results_file(options.html, "load-soak", ".html")
    locust, folder = load.find_locust(options.locust), find_bundle(options.model, _say)
    users = Load("everyone", "soak", 2 * options.users, options.seconds, Thresholds(fail_ratio=0.0))  # half of the peak
    with embedserve(folder, [*_PATIENT, *options.serve_options]) as server:
        before = look(server.pid)
        _say(f"{options.users} users, {options.seconds:g} s, process {server.pid}")
        with watched(server.pid) as samples:
            status = load.run(locust, users, f"http://{server.host}:{server.port}", html, read_bundle(folder))
        time.sleep(_REST)
        after = look(server.pid)
    kept = [one for one in samples if options.warm_up <= one.seconds <= options.seconds]
    if len(kept) < BLOCKS:
        raise MeasurementError(f"{len(kept)} looks at the process are too few; the load ended early")
    return Soaked(kept, before, after), status, samples


def _plot(samples: Sequence[Sample], memory: Trend) -> str:
    parts = blocks(samples, _POINTS)
    return lines(
        f"{samples[-1].seconds / 60:.0f} minutes of everyone: memory, descriptors, threads",
        "seconds",
        [round(one.seconds) for one in parts],
        [
            Lines(
                f"Memory of its own, {memory.slope:+.1f} ± {memory.margin:.1f} MB an hour; mapped files",
                "MB",
                {"memory": [one.memory for one in parts], "mapped files": [one.mapped for one in parts]},
            ),
            Lines(
                "Open files and threads",
                "number",
                {
                    "descriptors": [float(one.descriptors) for one in parts],
                    "threads": [float(one.threads) for one in parts],
                },
            ),
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("endurance", _HELP, model="what it serves")
    command.add_seconds(parser, 1800, "of load")
    parser.add_argument(
        "--warm-up",
        type=command.number(float),
        metavar="N",
        default=600,
        help="seconds that do not count (default: %(default)g)",
    )
    parser.add_argument(
        "--users",
        type=command.number(int, 1),
        metavar="N",
        default=12,
        help="of a request or two a second (default: %(default)s)",
    )
    parser.add_argument(
        "--max-slope",
        type=command.number(float),
        default=5.0,
        metavar="MB",
        help="an hour of memory (default: %(default)g)",
    )
    command.add_json(parser)
    parser.add_argument("--svg", type=command.output, metavar="FILE", help="for the plot")
    parser.add_argument(
        "--html", type=command.output, metavar="FILE", help="locust's report (default: a new file in results/)"
    )
    command.add_locust(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
