"""What the benchmark of throughput makes of its rounds, and of the raw runtime."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from loadtest import raw
from loadtest.client import Result
from loadtest.raw import Ceiling, Rate
from loadtest.report import Raw, Round, Served, summary
from loadtest.texts import Text
from loadtest.throughput import rated_figures
from service.bundle import read_bundle
from service.types import Matrix

KEY = "singles fp32"


def _result(tokens: float, p50: float, server_cpu: float | None = 4.0) -> Result:
    return Result(tokens / 10, tokens, p50, 2 * p50, 100, 5.0, 0, 0.1, server_cpu)


def _round(ceiling: float, alone: float, single: float, p50: float) -> Round:
    """By tokens per second, and milliseconds."""
    rates = Raw({512: Rate(ceiling, ceiling / 2)}, 16.0)
    served = {
        "bulk fp32": Served(_result(single, 100), "bulk", "fp32", 64, {}),
        "single fp32": Served(_result(single, 100), "singles", "fp32", 1, {}),
        "latency fp32": Served(_result(1, p50), "singles", "fp32", 1, {}),
    }
    return Round({KEY: rates, "bulk fp32": rates}, {KEY: (alone, 2 * alone)}, served)


def test_ratios_and_differences_are_taken_within_rounds() -> None:
    """The machine of the second round was half as fast."""
    rounds = [_round(1000, 2.0, 800, 2.5), _round(500, 4.0, 450, 5.0), _round(1000, 2.1, 810, 3.9)]
    found = {(one.topic, one.name): one.value for one in rated_figures(summary(rounds))}
    assert found["single fp32", "÷ R"] == pytest.approx(0.81)  # of 0.8, 0.9 and 0.81
    assert found["latency fp32", "p50 over session.run's"] == pytest.approx(1.0)  # of 0.5, 1.0 and 1.8
    assert found["latency fp32", "p50"] == 3.9


def test_the_servers_time_for_a_request_is_no_number_where_it_is_not_known() -> None:
    assert _result(1000, 1.0, 4.0).server_microseconds == pytest.approx(8000)
    assert math.isnan(_result(1000, 1.0, None).server_microseconds)
    assert math.isnan(_result(0, 1.0, 4.0).server_microseconds)


def test_the_raw_runtimes_time_is_that_of_its_run_alone(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def pass_(seconds: float) -> None:
        nonlocal now
        now += seconds

    ceiling = Ceiling(bundle, read_bundle(bundle), 1)
    ready, run = ceiling._ready, ceiling._run

    def slow_ready(texts: Sequence[Text]) -> raw._Ready:
        pass_(1.0)
        return ready(texts)

    def slow_run(batch: raw._Ready) -> Matrix:
        pass_(2.0)
        return run(batch)

    monkeypatch.setattr(raw, "time", SimpleNamespace(perf_counter=lambda: now))
    monkeypatch.setattr(ceiling, "_ready", slow_ready)
    monkeypatch.setattr(ceiling, "_run", slow_run)
    assert ceiling.latencies([Text("a", [101, 1037, 102])], 5.0) == [2.0, 2.0]
