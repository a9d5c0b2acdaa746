"""Rounds → medians, the table people read; and what the figures depend on."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loadtest.client import Result
from loadtest.raw import Rate
from service.tuning import processor

_RAW_COLUMNS = ("mix", "tokens/s", "texts/s", "best budget", "tokens/s by budget")
_SERVED_COLUMNS = (
    *("load", "requests/s", "texts/s", "tokens/s", "÷ R", "÷ R by CPU", "p50 ms", "p99 ms"),
    *("server CPU", "client CPU", "by", "rows/batch", "padding"),
)


@dataclass(frozen=True, slots=True)
class Raw:
    """The ceiling on one mix in one round: real tokens by token budget."""

    tokens: Mapping[int, Rate]
    tokens_per_text: float

    def mean(self, other: Raw) -> Raw:
        """Of two looks at it, equally long."""
        return Raw(
            {budget: _mean(rate, other.tokens[budget]) for budget, rate in self.tokens.items()}, self.tokens_per_text
        )


def _mean(one: Rate, other: Rate) -> Rate:
    return Rate((one.per_second + other.per_second) / 2, (one.per_cpu_second + other.per_cpu_second) / 2)


@dataclass(frozen=True, slots=True)
class Served:
    """One load in one round. `batches` are differences of the server's own counters."""

    result: Result
    mix: str
    precision: str
    texts_per_request: int
    batches: Mapping[str, float]

    @property
    def ceiling(self) -> str:
        """The key of its R."""
        return f"{self.mix} {self.precision}"

    @property
    def tokens_per_second(self) -> float:
        """By the server's counters where requests are few: those tell of parts of a request."""
        return self.result.computed_per_second or self.result.tokens_per_second


@dataclass(frozen=True, slots=True)
class Round:
    """Everything measured once. Keys: "bulk fp32": a mix (or a load, for `served`) and a precision."""

    raw: dict[str, Raw]
    raw_latencies: dict[str, tuple[float, float]]  # p50 and p99 of `session.run` alone, in milliseconds
    served: dict[str, Served]


@dataclass(frozen=True, slots=True)
class Ceilings:
    """R of one mix: the budget whose median is the best, and what it gave round by round."""

    budget: int
    by_round: Sequence[Rate]
    medians: Mapping[int, float]
    tokens_per_text: float

    @property
    def tokens_per_second(self) -> float:
        """R."""
        return _median(rate.per_second for rate in self.by_round)


def ceilings(rounds: Sequence[Round], key: str) -> Ceilings:
    """R, from the rounds' measurements on one mix in one precision."""
    raws = [one.raw[key] for one in rounds]
    medians = {budget: _median(raw.tokens[budget].per_second for raw in raws) for budget in raws[0].tokens}
    best = max(medians, key=medians.__getitem__)
    by_round = [raw.tokens[best] for raw in raws]
    return Ceilings(best, by_round, medians, _median(raw.tokens_per_text for raw in raws))


def summary(rounds: Sequence[Round]) -> dict[str, Any]:
    """Medians over the rounds. Ratios and differences are taken within each, where load and ceiling met the same
    machine."""
    found: dict[str, Any] = {"raw": {}, "raw_latency": {}, "served": {}}
    for key in rounds[0].raw:
        ceiling = ceilings(rounds, key)
        found["raw"][key] = {
            "tokens_per_second": ceiling.tokens_per_second,
            "texts_per_second": ceiling.tokens_per_second / ceiling.tokens_per_text,
            "max_batch_tokens": ceiling.budget,
            "tokens_per_second_by_budget": dict(ceiling.medians),
        }
    for key in rounds[0].raw_latencies:
        p50, p99 = (_median(one.raw_latencies[key][i] for one in rounds) for i in (0, 1))
        lone = f"latency {key.partition(' ')[2]}"
        over = _median(one.served[lone].result.p50 - one.raw_latencies[key][0] for one in rounds)
        found["raw_latency"][key] = {"p50": p50, "p99": p99, "served_over_p50": over}
    for name, first in rounds[0].served.items():
        found["served"][name] = _served([one.served[name] for one in rounds], ceilings(rounds, first.ceiling).by_round)
    found["precisions"] = _precisions(rounds)
    return found


def _precisions(rounds: Sequence[Round]) -> dict[str, Any]:
    """How many times the first precision's throughput another's is, within the rounds: raw, and served."""
    first, *others = [key.partition(" ")[2] for key in rounds[0].raw if key.startswith("bulk ")]
    best = {precision: ceilings(rounds, f"bulk {precision}").by_round for precision in (first, *others)}

    def served(one: Round, precision: str) -> float:
        return one.served[f"bulk {precision}"].tokens_per_second

    return {
        other: {
            "than": first,
            "raw": _median(a.per_second / b.per_second for a, b in zip(best[other], best[first], strict=True)),
            "served": _median(served(one, other) / served(one, first) for one in rounds),
        }
        for other in others
    }


def _served(loads: Sequence[Served], ceiling: Sequence[Rate]) -> dict[str, Any]:
    results = [load.result for load in loads]
    requests = _median(result.requests_per_second for result in results)
    found: dict[str, Any] = {
        "requests_per_second": requests,
        "texts_per_second": requests * loads[0].texts_per_request,
        "tokens_per_second": _median(load.tokens_per_second for load in loads),
        "tokens_per_second_by_answers": _median(result.tokens_per_second for result in results),
        "ratio_to_raw": _median(one.tokens_per_second / c.per_second for one, c in zip(loads, ceiling, strict=True)),
        "p50": _median(result.p50 for result in results),
        "p99": _median(result.p99 for result in results),
        "answered": _median(result.answered for result in results),
        "client_cores": _median(result.client_cpu / result.seconds for result in results),
        "generator": results[0].generator,
        "server_cores": None,
        "cpu_ratio_to_raw": None,
        "rows_per_batch": None,
        "padding": None,
    }
    if all(result.server_cpu is not None for result in results):
        found["server_cores"] = _median((result.server_cpu or 0.0) / result.seconds for result in results)
        found["cpu_ratio_to_raw"] = _median(
            one.tokens_per_second * one.result.seconds / (one.result.server_cpu or math.nan) / c.per_cpu_second
            for one, c in zip(loads, ceiling, strict=True)
        )
    if all(load.batches.get("batch_rows_count") for load in loads):
        found["rows_per_batch"] = _median(b.batches["batch_rows_sum"] / b.batches["batch_rows_count"] for b in loads)
        found["padding"] = _median(
            b.batches["padding_tokens_total"] / b.batches["computed_tokens_total"] for b in loads
        )
    return found


def table(found: Mapping[str, Any]) -> str:
    """The summary for people. CPU is in cores: 2.00 is two of them busy all the time."""
    lines = ["Ceiling R: session.run alone, pre-tokenised, sorted by length, one thread per core"]
    rows = [list(_RAW_COLUMNS)]
    for key, raw in found["raw"].items():
        by_budget = ", ".join(f"{budget}: {rate:,.0f}" for budget, rate in raw["tokens_per_second_by_budget"].items())
        rates = f"{raw['tokens_per_second']:,.0f}", f"{raw['texts_per_second']:,.0f}"
        rows.append([key, *rates, str(raw["max_batch_tokens"]), by_budget])
    lines += aligned(rows)
    for key, alone in found["raw_latency"].items():
        lines.append(f"  one text of {key} alone: p50 {alone['p50']:.2f} ms, p99 {alone['p99']:.2f} ms")
    lines += ["", "Served over HTTP (CPU in cores)"]
    rows = [list(_SERVED_COLUMNS), *(_served_row(name, one) for name, one in found["served"].items())]
    return "\n".join([*lines, *aligned(rows)])


def _served_row(name: str, one: Mapping[str, Any]) -> list[str]:
    return [
        name,
        f"{one['requests_per_second']:,.1f}",
        f"{one['texts_per_second']:,.0f}",
        f"{one['tokens_per_second']:,.0f}",
        "–" if name.startswith("latency") else f"{one['ratio_to_raw']:.3f}",  # one connection leaves cores idle
        _or_dash(one["cpu_ratio_to_raw"], ".3f"),
        f"{one['p50']:.2f}",
        f"{one['p99']:.2f}",
        _or_dash(one["server_cores"], ".2f"),
        f"{one['client_cores']:.3f}",
        one["generator"],
        _or_dash(one["rows_per_batch"], ".1f"),
        _or_dash(one["padding"], ".1%"),
    ]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Columns `left` to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    cells = [
        [c.ljust(w) if i in left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))]
        for row in rows
    ]
    return [f"  {'  '.join(row)}".rstrip() for row in cells]
