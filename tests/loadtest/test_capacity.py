"""The arithmetic of the capacity table, and that each length is measured by a real server."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest import capacity
from loadtest.capacity import LENGTHS, Capacity, cost_of_a_million, measured, replicas, tables


@pytest.mark.parametrize(
    ("rate", "of_one", "count"), [(1000, 100, 15), (700, 100, 10), (701, 100, 11), (1, 100, 1), (100_000, 250, 572)]
)
def test_replicas_are_the_rate_divided_by_what_seven_tenths_of_one_do(rate: float, of_one: float, count: int) -> None:
    assert replicas(rate, of_one) == count


@given(st.floats(1, 1e6), st.floats(0.1, 1e5), st.floats(0.1, 1))
def test_as_many_are_enough_and_one_fewer_is_not(rate: float, of_one: float, utilisation: float) -> None:
    count = replicas(rate, of_one, utilisation)
    assert count * of_one * utilisation >= rate * (1 - 1e-6)
    assert (count - 1) * of_one * utilisation < rate


def test_a_million_texts_cost_the_hours_that_they_take() -> None:
    """100 requests a second at 0.7 are 252,000 an hour, so a million take 3.97 hours."""
    assert cost_of_a_million(1.0, 100.0) == pytest.approx(1_000_000 / 252_000)
    assert cost_of_a_million(0.5, 100.0) == pytest.approx(500_000 / 252_000)


def test_the_tables_follow_from_what_a_core_does() -> None:
    text = tables([Capacity("fp32", 128, measured=40.0, per_core=50.0)], cores=2, price=3.0)
    assert "| fp32 | 128 | 50.0 | 100 | 12,800 | 40.0 |" in text
    assert "| fp32 | 128 | 15 | 143 | 1,429 |" in text
    assert "where a replica's hour costs 3 |" in text
    assert "| fp32 | 128 | 11.9 |" in text


def test_each_length_and_precision_is_measured(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "LENGTHS", (10, 300))
    monkeypatch.setattr(capacity, "PRECISIONS", ("fp32",))
    options = argparse.Namespace(model=str(bundle), rounds=1, seconds=0.5, serve_options=[])
    found = measured(options)
    assert [(one.precision, one.tokens) for one in found] == [("fp32", 10), ("fp32", 300)]
    assert all(one.measured > 0 and one.per_core > 0 for one in found)
    assert found[0].per_core > found[1].per_core
    assert max(LENGTHS) == 2000
