"""Buckets: never more than they promise, and never a wait that was not enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rate_limits import MINUTE, Bucket, duration

LIMITS = st.integers(1, 10_000_000)
PAUSES = st.integers(0, 2 * MINUTE)


@given(limit=LIMITS, asked=st.lists(st.tuples(PAUSES, st.integers(1, 10_000_000)), max_size=60))
def test_no_time_lets_through_more_than_a_burst_and_the_rate(limit: int, asked: list[tuple[int, int]]) -> None:
    """Between any two moments: limit × (1 + minutes), exactly."""
    bucket, now, taken = Bucket(limit, 0), 0, []
    for pause, amount in asked:
        now += pause
        if bucket.take(amount, now):
            taken.append((now, amount))
    for first, (since, _) in enumerate(taken):
        total = 0
        for until, amount in taken[first:]:
            total += amount
            assert total * MINUTE <= limit * (MINUTE + until - since)


@given(
    limit=LIMITS,
    before=st.lists(st.tuples(PAUSES, st.integers(1, 10_000_000)), max_size=20),
    part=st.floats(0, 1),
)
def test_who_waits_as_told_is_let_in_and_not_a_nanosecond_sooner(
    limit: int, before: list[tuple[int, int]], part: float
) -> None:
    bucket, now = Bucket(limit, 0), 0
    for pause, amount in before:
        now += pause
        bucket.take(amount, now)
    wanted = max(1, int(limit * part))
    wait = bucket.wait(wanted, now)
    assert wait <= MINUTE
    if wait:
        assert not bucket.take(wanted, now + wait - 1)
    assert bucket.take(wanted, now + wait)


@given(limit=LIMITS, amounts=st.lists(st.integers(1, 10_000_000), max_size=20))
def test_what_is_given_back_is_there_again_and_never_more_than_the_limit(limit: int, amounts: list[int]) -> None:
    bucket = Bucket(limit, 0)
    for amount in amounts:
        left = bucket.left(0)
        if bucket.take(amount, 0):
            assert bucket.left(0) == left - amount
            bucket.give_back(amount, 0)
        assert bucket.left(0) == left
    bucket.give_back(limit, 0)
    assert (bucket.left(0), bucket.until_full(0)) == (limit, 0)


def test_openais_own_example() -> None:
    """Of 10,000 requests a minute one is taken: 9,999 are left, and after 6 ms all are there again."""
    bucket = Bucket(10_000, 0)
    assert bucket.take(1, 0)
    assert (bucket.left(0), duration(bucket.until_full(0))) == (9_999, "6ms")


def test_what_is_over_the_limit_is_never_there() -> None:
    assert not Bucket(10, 0).take(11, 60 * MINUTE)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1, "1ms"),
        (6_000_000, "6ms"),
        (999_000_000, "999ms"),
        (999_000_001, "1s"),
        (1_500_000_000, "1.5s"),
        (2_812_000_000, "2.812s"),
        (MINUTE, "1m0s"),
        (2 * MINUTE + 250_000_000, "2m0.25s"),
        (60 * MINUTE, "1h0m0s"),
        (61 * MINUTE + 1_000_000, "1h1m0.001s"),
    ],
)
def test_durations_are_gos(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
