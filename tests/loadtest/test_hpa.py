"""The autoscaler's rules, by the examples of Kubernetes's documentation."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.hpa import Autoscaler, Behavior, ExternalMetric, Metric, PodsMetric, Policy, Rules, reversals

EVERYTHING = Rules((Policy("Percent", 100, 15),))
AT_ONCE = Behavior(Rules((Policy("Percent", 10_000, 15),)), EVERYTHING)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(0.2, 6), (0.05, 2), (0.1, 3), (0.109, 3), (0.091, 3), (0.112, 4), (0.08, 3), (0.066, 2)],
)
def test_twice_the_target_doubles_half_of_it_halves_and_a_tenth_is_tolerated(value: float, wanted: int) -> None:
    assert PodsMetric([value] * 3, 0.1).replicas(3) == wanted
    assert ExternalMetric(3 * value, 0.1, is_average=True).replicas(3) == wanted
    assert ExternalMetric(value, 0.1, is_average=False).replicas(3) == wanted


@pytest.mark.parametrize(
    ("values", "missing", "wanted"),
    [
        ([0.2, 0.2], 2, 4),  # with two idle pods it is 0.1: enough
        ([0.4, 0.4], 2, 8),
        ([0.05, 0.05], 2, 3),  # with two content ones 0.075 of each
        ([0.12], 3, 4),  # up would become down: stay
        ([], 4, None),
    ],
)
def test_pods_without_a_value_are_idle_when_it_goes_up_and_content_when_it_goes_down(
    values: list[float], missing: int, wanted: int | None
) -> None:
    assert PodsMetric(values, 0.1, missing).replicas(4) == wanted


def look(scaler: Autoscaler, now: float, current: int, ratio: float) -> int:
    return scaler.look(now, current, [ExternalMetric(ratio, 1.0, is_average=False)])


def test_of_several_metrics_the_largest_counts_and_one_that_is_missing_stops_the_way_down() -> None:
    two: list[Metric] = [PodsMetric([0.5] * 4, 1.0), ExternalMetric(2.0, 1.0, is_average=False)]
    assert Autoscaler(1, 10, AT_ONCE).look(0, 4, two) == 8
    unknown: list[Metric] = [PodsMetric([0.5] * 4, 1.0), PodsMetric([], 1.0)]
    assert Autoscaler(1, 10, AT_ONCE).look(0, 4, unknown) == 4
    assert Autoscaler(1, 10, AT_ONCE).look(0, 4, [PodsMetric([2.0] * 4, 1.0), PodsMetric([], 1.0)]) == 8


def test_least_and_most_hold() -> None:
    assert look(Autoscaler(2, 10, AT_ONCE), 0, 4, 100.0) == 10
    assert look(Autoscaler(2, 10, AT_ONCE), 0, 4, 0.01) == 2


def test_the_documents_example_of_two_policies_down() -> None:
    """80 pods, 4 pods or 10 percent a minute: 8 go, then 8 of 72, and below 40 four at a time."""
    down = Rules((Policy("Pods", 4, 60), Policy("Percent", 10, 60)))
    scaler = Autoscaler(1, 100, Behavior(EVERYTHING, down))
    counts, now = [80], 0.0
    while counts[-1] > 10:
        counts.append(look(scaler, now, counts[-1], 0.01))
        now += 61
    assert counts[:4] == [80, 72, 64, 57]
    small = [before - after for before, after in pairwise(counts) if before < 40]
    assert set(small[:-1]) == {4}


def test_a_period_of_a_policy_holds_over_several_looks() -> None:
    scaler = Autoscaler(1, 100, Behavior(Rules((Policy("Pods", 4, 60),)), EVERYTHING))
    counts = [5]
    for number in range(5):
        counts.append(look(scaler, 15.0 * number, counts[-1], 10.0))
    assert counts == [5, 9, 9, 9, 9, 13]


def test_select_min_and_disabled() -> None:
    both = (Policy("Pods", 4, 60), Policy("Percent", 10, 60))
    assert look(Autoscaler(1, 100, Behavior(EVERYTHING, Rules(both, select="Min"))), 0, 80, 0.01) == 76
    assert look(Autoscaler(1, 100, Behavior(EVERYTHING, Rules(both, select="Disabled"))), 0, 80, 0.01) == 80


def test_the_most_of_the_window_counts_on_the_way_down_and_the_least_on_the_way_up() -> None:
    scaler = Autoscaler(1, 100, Behavior(Rules(AT_ONCE.up.policies, window=60), Rules(EVERYTHING.policies, window=300)))
    assert look(scaler, 0, 4, 1.0) == 4
    assert look(scaler, 15, 4, 3.0) == 4  # a spike
    assert look(scaler, 30, 4, 0.25) == 4  # and a dip
    assert look(scaler, 330, 4, 0.5) == 2  # both are forgotten
    steady = Autoscaler(1, 100, scaler.behavior)
    assert [look(steady, 15.0 * i, 4, 3.0) for i in range(2)] == [12, 12]  # nothing else was asked for before


@given(st.lists(st.floats(0.0, 20.0), min_size=1, max_size=60), st.integers(1, 30))
def test_whatever_the_metric_does_the_number_stays_in_its_bounds_and_turns_only_as_the_metric_does(
    ratios: list[float], start: int
) -> None:
    scaler, current = Autoscaler(2, 20), min(max(start, 2), 20)
    for number, ratio in enumerate(ratios):
        after = look(scaler, 15.0 * number, current, ratio)
        assert 2 <= after <= 20
        assert after <= current or ratio > 1
        assert after <= max(2 * current, current + 4)
        current = after


def test_reversals() -> None:
    assert reversals([2, 2, 4, 8, 8, 4, 2]) == 1
    assert reversals([2, 4, 2, 4, 2]) == 3
    assert reversals([3]) == reversals([3, 3]) == 0
    assert math.isfinite(reversals([1, 2]))
