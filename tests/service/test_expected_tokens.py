"""What is expected of a body by its size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.expected_tokens import ExpectedTokens

ROUTE = "/v1/embeddings"


def taught(bodies: list[tuple[int, int]]) -> ExpectedTokens:
    """By bodies of (bytes, tokens)."""
    expected = ExpectedTokens()
    for size, tokens in bodies:
        expected.learn(ROUTE, size, tokens)
    return expected


def test_nothing_is_expected_of_a_route_until_some_were_answered_there() -> None:
    expected = taught([(1_000, 200)] * 7)
    assert not expected.knows(ROUTE)
    expected.learn(ROUTE, 1_000, 200)
    assert expected.knows(ROUTE)
    assert not expected.knows("/rerank")


def test_bodies_without_a_byte_teach_nothing() -> None:
    assert not taught([(0, 0)] * 20).knows(ROUTE)


def test_tokens_go_by_bytes() -> None:
    expected = taught([(1_000, 200), (3_000, 600)] * 10)
    assert expected.of(ROUTE, 500) == 100
    assert expected.of(ROUTE, 1) == 1


@given(st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 5_000)), min_size=8))
def test_what_is_expected_is_between_the_least_and_the_most_that_was_seen(bodies: list[tuple[int, int]]) -> None:
    found = taught(bodies).of(ROUTE, 1_000_000)
    ratios = [tokens / size for size, tokens in bodies]
    assert 0.999 * min(ratios) <= (found + 1) / 1e6
    assert (found - 1) / 1e6 <= 1.001 * max(ratios)


def test_a_body_may_have_as_many_tokens_as_the_densest_of_late() -> None:
    expected = taught([(1_000, 200)] * 50 + [(500, 400)] + [(1_000, 200)] * 50)
    assert 750 < expected.most(ROUTE, 1_000) <= 800
    for _ in range(10_000):
        expected.learn(ROUTE, 1_000, 200)
    assert expected.most(ROUTE, 1_000) == 200


def test_nothing_is_known_while_some_wait_in_another_queue() -> None:
    expected = taught([(1_000, 200)] * 20)
    expected.learn_elsewhere(ROUTE)
    assert not expected.knows(ROUTE)
    for _ in range(500):
        expected.learn(ROUTE, 1_000, 200)
    assert expected.knows(ROUTE)


def test_what_is_refused_teaches_of_a_route_that_is_answered_alone() -> None:
    expected = taught([])
    for _ in range(20):
        expected.learn_of_refused(ROUTE, 1_000, 200)
    assert not expected.knows(ROUTE)
    for _ in range(20):
        expected.learn(ROUTE, 1_000, 200)
    expected.learn_of_refused(ROUTE, 1_000, 900)
    assert expected.most(ROUTE, 1_000) == 900


def test_one_in_sixteen_is_read_all_the_same() -> None:
    expected = taught([(1_000, 200)] * 20)
    assert sum(expected.is_due(ROUTE) for _ in range(160)) == 10


def test_clients_may_change_their_language() -> None:
    expected = taught([(1_000, 200)] * 500 + [(1_000, 500)] * 200)
    assert expected.of(ROUTE, 1_000) == pytest.approx(500, rel=0.05)
