"""What a load must show: each threshold alone, at its very value, and as variables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from loadtest.thresholds import Measured, Thresholds, from_environment

FOUND = Measured(requests=1000, fail_ratio=0.01, p95_ms=80, rps=120)
WISHED = Thresholds(fail_ratio=0.01, p95_ms=80, min_rps=120)


def test_what_is_just_reached_is_not_missed() -> None:
    assert not list(WISHED.missed(FOUND))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"fail_ratio": 0.0101}, "fail ratio 1.01% is above 1.00% of the requests"),
        ({"p95_ms": 81}, "p95 81 ms is above 80 ms"),
        ({"rps": 119.9}, "119.9 requests/s are below 120"),
        ({"requests": 0, "fail_ratio": 0}, "no request was answered"),
    ],
)
def test_each_is_missed_by_itself(changes: dict[str, float], line: str) -> None:
    assert list(WISHED.missed(replace(FOUND, **changes))) == [line]  # type: ignore[arg-type]


def test_what_is_not_asked_for_is_not_missed() -> None:
    assert not list(Thresholds().missed(replace(FOUND, p95_ms=1e9, rps=0.001)))


@pytest.mark.parametrize("wished", [WISHED, Thresholds(), Thresholds(0, None, 3)])
def test_variables_say_the_same(wished: Thresholds) -> None:
    assert from_environment(wished.variables()) == wished


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_variable_that_is_no_number_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(ValueError, match="EMBEDSERVE_LOAD_P95_MS is '"):
        from_environment({"EMBEDSERVE_LOAD_P95_MS": text})
