"""Numbers that are counted without a lock, written as Prometheus expects them."""

from __future__ import annotations

import math
from bisect import bisect_left
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tallies import Counter, Family, Gauge, Histogram

BOUNDS = (0.001, 0.5, 1.0, 16.0)


@given(st.lists(st.floats(0, 100) | st.sampled_from(BOUNDS)))
def test_buckets_are_cumulative_and_include_their_bound(values: list[float]) -> None:
    histogram = Histogram(BOUNDS)
    for value in values:
        histogram.observe(value)
    *buckets, count, total = histogram.samples()
    for bucket, bound in zip(buckets, (*BOUNDS, math.inf), strict=True):
        assert bucket.value == bisect_left(sorted(values), math.nextafter(bound, math.inf))
        assert float(bucket.labels["le"]) == bound
    assert (count.suffix, count.value) == ("_count", len(values))
    assert total.suffix == "_sum"
    assert total.value == pytest.approx(sum(values))


def test_a_family_has_one_child_for_each_set_of_labels() -> None:
    family = Family("things", "Things", ("kind", "size"), Counter)
    assert list(family.samples()) == []
    family.labels("a", 1).inc()
    family.labels("a", "1").inc(2)
    family.labels("b", 1).inc()
    found = {(sample.labels["kind"], sample.labels["size"]): sample.value for sample in family.samples()}
    assert found == {("a", "1"): 3, ("b", "1"): 1}
    assert {sample.suffix for sample in family.samples()} == {"_total"}


def test_a_family_without_labels_is_there_from_the_start() -> None:
    family = Family("level", "A level", (), Gauge)
    assert [sample.value for sample in family.samples()] == [0]
    family.labels().set(3)
    family.labels().inc(-1)
    assert [sample.value for sample in family.samples()] == [2]
    waiting = ["a", "b"]
    family.labels().set_function(lambda: len(waiting))
    waiting.append("c")
    assert [sample.value for sample in family.samples()] == [3]


def test_children_of_a_histogram_count_for_themselves() -> None:
    family = Family("seconds", "Seconds", ("route",), partial(Histogram, BOUNDS))
    family.labels("a").observe(0.2)
    family.labels("b")
    counts = {one.labels["route"]: one.value for one in family.samples() if one.suffix == "_count"}
    assert counts == {"a": 1, "b": 0}


@pytest.mark.parametrize("values", [(), ("a",), ("a", "b", "c")])
def test_too_few_or_too_many_labels_are_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="has the labels"):
        Family("things", "Things", ("kind", "size"), Counter).labels(*values)
