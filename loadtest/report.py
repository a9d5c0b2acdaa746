"""Rounds → medians, the table people read, the JSON machines read."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.client import Result
from loadtest.raw import Rate

_SERVED_COLUMNS = (
    *("load", "requests/s", "texts/s", "tokens/s", "÷ R", "÷ R by CPU", "p50 ms", "p99 ms"),
    *("server CPU s", "client CPU s", "rows/batch", "padding"),
)


@dataclass(frozen=True, slots=True)
class Raw:
    """The ceiling on one mix in one round: real tokens by token budget."""

    tokens: Mapping[int, Rate]
    tokens_per_text: float


@dataclass(frozen=True, slots=True)
class Served:
    """One load in one round. `batches` are differences of the server's own counters, where it has them."""

    result: Result
    texts_per_request: int
    batches: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Round:
    """Everything measured once: ceilings by mix, loads by name, and `session.run` alone in milliseconds."""

    raw: Mapping[str, Raw]
    raw_latencies: tuple[float, float]  # p50, p99
    served: Mapping[str, Served]


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


def ceilings(rounds: Sequence[Round], mix: str) -> Ceilings:
    """R, from the rounds' measurements on one mix."""
    raws = [one.raw[mix] for one in rounds]
    medians = {budget: _median(raw.tokens[budget].per_second for raw in raws) for budget in raws[0].tokens}
    best = max(medians, key=medians.__getitem__)
    by_round = [raw.tokens[best] for raw in raws]
    return Ceilings(best, by_round, medians, _median(raw.tokens_per_text for raw in raws))


def summary(rounds: Sequence[Round], mix_of: Mapping[str, str]) -> dict[str, Any]:
    """Medians over the rounds. Ratios are taken within each round, where load and ceiling met the same machine."""
    found: dict[str, Any] = {"raw": {}, "served": {}}
    for mix in rounds[0].raw:
        ceiling = ceilings(rounds, mix)
        found["raw"][mix] = {
            "tokens_per_second": ceiling.tokens_per_second,
            "texts_per_second": ceiling.tokens_per_second / ceiling.tokens_per_text,
            "max_batch_tokens": ceiling.budget,
            "tokens_per_second_by_budget": dict(ceiling.medians),
        }
    found["raw_latency"] = {
        "p50": _median(one.raw_latencies[0] for one in rounds),
        "p99": _median(one.raw_latencies[1] for one in rounds),
    }
    for name, mix in mix_of.items():
        found["served"][name] = _served([one.served[name] for one in rounds], ceilings(rounds, mix).by_round)
    return found


def _served(loads: Sequence[Served], ceiling: Sequence[Rate]) -> dict[str, Any]:
    results = [load.result for load in loads]
    requests = _median(result.requests_per_second for result in results)
    found: dict[str, Any] = {
        "requests_per_second": requests,
        "texts_per_second": requests * loads[0].texts_per_request,
        "tokens_per_second": _median(result.tokens_per_second for result in results),
        "ratio_to_raw": _median(r.tokens_per_second / c.per_second for r, c in zip(results, ceiling, strict=True)),
        "p50": _median(result.p50 for result in results),
        "p99": _median(result.p99 for result in results),
        "client_cpu": _median(result.client_cpu for result in results),
        "server_cpu": None,
        "cpu_ratio_to_raw": None,
        "rows_per_batch": None,
        "padding": None,
    }
    if all(result.server_cpu is not None for result in results):
        found["server_cpu"] = _median(result.server_cpu or 0.0 for result in results)
        found["cpu_ratio_to_raw"] = _median(
            r.tokens_per_second * r.seconds / (r.server_cpu or math.nan) / c.per_cpu_second
            for r, c in zip(results, ceiling, strict=True)
        )
    if all(load.batches.get("batch_rows_count") for load in loads):
        found["rows_per_batch"] = _median(b.batches["batch_rows_sum"] / b.batches["batch_rows_count"] for b in loads)
        found["padding"] = _median(
            b.batches["padding_tokens_total"] / b.batches["computed_tokens_total"] for b in loads
        )
    return found


def table(figures: Mapping[str, Any]) -> str:
    """The summary for people."""
    lines = ["Ceiling R: session.run alone, pre-tokenised, sorted by length, one thread per core"]
    rows = [["mix", "tokens/s", "texts/s", "best budget", "tokens/s by budget"]]
    for mix, raw in figures["raw"].items():
        by_budget = ", ".join(f"{budget}: {rate:,.0f}" for budget, rate in raw["tokens_per_second_by_budget"].items())
        rates = f"{raw['tokens_per_second']:,.0f}", f"{raw['texts_per_second']:,.0f}"
        rows.append([mix, *rates, str(raw["max_batch_tokens"]), by_budget])
    lines += [*aligned(rows), "", "Served over HTTP"]
    rows = [list(_SERVED_COLUMNS)]
    for name, one in figures["served"].items():
        rows.append(
            [
                name,
                f"{one['requests_per_second']:,.1f}",
                f"{one['texts_per_second']:,.0f}",
                f"{one['tokens_per_second']:,.0f}",
                "–" if name == "latency" else f"{one['ratio_to_raw']:.2f}",  # one connection leaves cores idle
                _or_dash(one["cpu_ratio_to_raw"], ".2f"),
                f"{one['p50']:.2f}",
                f"{one['p99']:.2f}",
                _or_dash(one["server_cpu"], ".2f"),
                f"{one['client_cpu']:.2f}",
                _or_dash(one["rows_per_batch"], ".1f"),
                _or_dash(one["padding"], ".1%"),
            ]
        )
    lines += aligned(rows)
    raw, served = figures["raw_latency"], figures["served"].get("latency")
    if served:
        lines += [
            "",
            f"One short text alone: session.run p50 {raw['p50']:.2f} ms, p99 {raw['p99']:.2f} ms; "
            f"over HTTP p50 {served['p50'] - raw['p50']:+.2f} ms, p99 {served['p99'] - raw['p99']:+.2f} ms",
        ]
    return "\n".join(lines)


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def write_json(path: Path, about: Mapping[str, Any], rounds: Sequence[Round], figures: Mapping[str, Any]) -> None:
    """All of it, every round included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {**about, "summary": figures, "rounds": [asdict(one) for one in rounds]}
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]
