"""What a request takes from its key's account, and what it is given back."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import OverRateLimit, RateLimited
from service.rate_limits import MINUTE, Bucket, Limits
from service.spending import Account, Spending


class Clock:
    """Nanoseconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def opened(limits: Limits, clock: Callable[[], int]) -> Account:
    return Account("team", limits, lambda _, per_minute: Bucket(per_minute, clock()))


def headers(one: Spending) -> dict[str, str]:
    return dict(one.headers())


def test_headers_say_what_is_left_and_when_all_is_back() -> None:
    clock = Clock()
    one = Spending(opened(Limits(60, 6_000), clock), clock)
    one.begin()
    one.spend(600)
    assert headers(one) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "1s",
        "x-ratelimit-limit-tokens": "6000",
        "x-ratelimit-remaining-tokens": "5400",
        "x-ratelimit-reset-tokens": "6s",
    }


@pytest.mark.parametrize(
    ("limits", "kinds"), [(Limits(), set()), (Limits(1), {"requests"}), (Limits(None, 1), {"tokens"})]
)
def test_there_are_headers_for_limits_alone(limits: Limits, kinds: set[str]) -> None:
    one = Spending(opened(limits, Clock()), Clock())
    one.begin()
    one.spend(1)
    assert {name.rpartition("-")[2] for name in headers(one)} == kinds


def test_tokens_over_the_limit_can_never_pass_and_cost_none() -> None:
    clock = Clock()
    account = opened(Limits(10, 100), clock)
    one = Spending(account, clock)
    one.begin()
    one.spend(60)
    with pytest.raises(OverRateLimit) as refused:
        one.spend(41)
    assert (refused.value.limit, refused.value.requested) == (100, 101)
    assert headers(one)["x-ratelimit-remaining-tokens"] == "100"
    assert headers(one)["x-ratelimit-remaining-requests"] == "9"


def test_what_the_server_fails_to_do_is_given_back_once() -> None:
    clock = Clock()
    account = opened(Limits(10, 100), clock)
    one, other = Spending(account, clock), Spending(account, clock)
    for each in (one, other):
        each.begin()
        each.spend(30)
    one.give_back()
    one.give_back()
    assert headers(one)["x-ratelimit-remaining-tokens"] == "70"
    assert headers(one)["x-ratelimit-remaining-requests"] == "9"


@given(
    limits=st.builds(Limits, st.none() | st.integers(1, 100), st.integers(1, 1_000)),
    spent=st.lists(st.tuples(st.integers(0, MINUTE // 4), st.integers(1, 1_000)), max_size=30),
    tokens=st.lists(st.integers(1, 500), min_size=1, max_size=3),
)
def test_a_client_that_waits_as_told_is_served(limits: Limits, spent: list[tuple[int, int]], tokens: list[int]) -> None:
    """Whatever it did before: after one wait for each thing that is not known sooner, which is whether it is a request
    too many, and then the tokens of each part that is embedded by itself (nearly always one)."""
    clock = Clock()
    account = opened(limits, clock)

    def ask(parts: list[int]) -> float | None:
        one = Spending(account, clock)
        try:
            one.begin()
            for part in parts:
                one.spend(part)
        except RateLimited as refused:
            return refused.retry_after
        return None

    def served(parts: list[int]) -> bool:
        wait = ask(parts)
        for _ in range((limits.requests is not None) + len(parts)):
            if wait is None:
                return True
            clock.now += round(wait * 1e9) + 1  # a float of seconds has lost the last nanosecond
            wait = ask(parts)
        return wait is None

    for pause, amount in spent:
        clock.now += pause
        if amount <= (limits.tokens or 0):
            ask([amount])
    if sum(tokens) <= (limits.tokens or 0):
        assert served(tokens)
    else:
        with pytest.raises(OverRateLimit):
            served(tokens)
