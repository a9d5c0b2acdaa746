"""The comparison's results → medians, figures, Markdown tables and a plot."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from loadtest import markdown
from loadtest.client import Result
from loadtest.figures import Figure, number
from loadtest.peers.contestants import CONTESTANTS
from loadtest.plots import Bars, bars

OURS = "embedserve"
# How many times the throughput of `_MEASURE` ours must be.
_MEASURE = "infinity (torch)"
_TIMES = {"single": 4.0, "bulk": 2.5}
_WORDS = {
    "bulk": "Bulk: 64 texts of 8 to 250 tokens a request, 4 connections",
    "single": "Single: one text of 8 to 24 tokens a request, 64 connections",
    "latency": "Latency: one text of 8 to 24 tokens, 1 connection",
}

Summary = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By load, server and figure."""


def summary(rounds: Sequence[Mapping[str, Mapping[str, Result]]]) -> dict[str, dict[str, dict[str, float]]]:
    """By load and server: medians; `times` is how many times as fast ours is, within each round."""
    return {
        load: {name: _median([one[load] for one in rounds], name, load) for name in _names(results)}
        for load, results in rounds[0].items()
    }


def _names(results: Mapping[str, Result]) -> list[str]:
    return [OURS, *(one.name for one in CONTESTANTS if one.name in results)]


def _median(rounds: Sequence[Mapping[str, Result]], name: str, load: str) -> dict[str, float]:
    def median(value: Callable[[Result], float]) -> float:
        return statistics.median(value(one[name]) for one in rounds)

    def faster(one: Mapping[str, Result]) -> float:
        if load == "latency":
            return one[name].p50 / one[OURS].p50
        return one[OURS].tokens_per_second / one[name].tokens_per_second

    return {
        "requests_per_second": median(lambda one: one.requests_per_second),
        "tokens_per_second": median(lambda one: one.tokens_per_second),
        "p50": median(lambda one: one.p50),
        "p99": median(lambda one: one.p99),
        "answered": median(lambda one: one.answered),
        "times": statistics.median(map(faster, rounds)),
        "server_cores": median(lambda one: (one.server_cpu or math.nan) / one.seconds),
        "times_by_cpu": statistics.median(_per_cpu(one[OURS]) / _per_cpu(one[name]) for one in rounds),
    }


def _per_cpu(result: Result) -> float:
    """Tokens for a second of the server's CPU time: hardly minds what else the machine is doing."""
    return result.tokens_per_second * result.seconds / (result.server_cpu or math.nan)


def rated_figures(found: Summary) -> Iterator[Figure]:
    """Everyone's throughput (latency: p50), and how many times as fast ours is."""
    for load, results in found.items():
        for name, one in results.items():
            if load == "latency":
                yield Figure(load, f"{name}, p50", one["p50"], "ms")
            else:
                yield Figure(load, name, one["tokens_per_second"], "tokens/s")
        for name, one in results.items():
            if name != OURS:
                at_least = _TIMES.get(load) if name == _MEASURE else None
                yield Figure(load, f"times as fast as {name}", one["times"], "×", at_least)
                yield Figure(load, f"by the servers' CPU time, as {name}", one["times_by_cpu"], "×")


def tables(found: Summary, about: Mapping[str, Any]) -> str:
    """Markdown."""
    versions = {
        name: ", ".join(f"{package} {v}" for package, v in one.items()) for name, one in about["versions"].items()
    }
    rows = [[name, versions[name], about["settings"].get(name, "its defaults")] for name in versions]
    parts = [
        f"{about['date']}, {about['machine']['cpu']}, {about['machine']['cores']} cores, Python "
        f"{about['machine']['python']}.\n",
        markdown.table(["server", "versions", "settings"], rows),
    ]
    for load, results in found.items():
        rows = [_row(name, one) for name, one in results.items()]
        head = [
            "server",
            "requests/s",
            "tokens/s",
            "p50 ms",
            "p99 ms",
            "cores used",
            "ours is faster by",
            "by CPU time by",
        ]
        parts += [f"{_WORDS[load]}.\n", markdown.table(head, rows)]
    return "\n".join(parts)


def _row(name: str, one: Mapping[str, float]) -> list[str]:
    numbers = (number(one[what]) for what in ("requests_per_second", "tokens_per_second", "p50", "p99"))
    times = ["", ""] if name == OURS else [f"{one['times']:.2f} ×", f"{one['times_by_cpu']:.2f} ×"]
    return [name, *numbers, number(one["server_cores"]), *times]


def plot(found: Summary) -> str:
    shown = {
        "bulk": ("tokens_per_second", "tokens per second"),
        "single": ("requests_per_second", "requests per second"),
        "latency": ("p50", "p50 in milliseconds: less is better"),
    }
    panels = [
        Bars(_WORDS[load], shown[load][1], {name: one[shown[load][0]] for name, one in results.items()})
        for load, results in found.items()
    ]
    return bars("all-MiniLM-L6-v2 in fp32 on one machine", panels)
