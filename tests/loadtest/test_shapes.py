"""The shapes of locust's load."""

from __future__ import annotations

import pytest

from loadtest.shapes import SECONDS, SHAPES, users_at


@pytest.mark.parametrize("shape", SHAPES)
def test_there_is_always_a_user_never_more_than_the_peak_and_an_end(shape: str) -> None:
    found = [users_at(shape, second, 100, peak=40) for second in range(100)]
    assert all(users is not None and 1 <= users <= 40 for users in found)
    assert users_at(shape, 100, 100, peak=40) is None
    assert users_at(shape, 0, 100, peak=1) == 1
    assert SECONDS[shape] > 0


def test_a_ramp_only_rises_and_arrives() -> None:
    found = [users_at("ramp", second, 100, peak=40) or 0 for second in range(100)]
    assert found == sorted(found)
    assert found[0] == 1
    assert found[40] == 20
    assert found[-1] == 40


def test_a_spike_comes_and_goes() -> None:
    found = [users_at("spike", second, 100, peak=40) for second in range(100)]
    assert found == [4] * 40 + [40] * 20 + [4] * 40


def test_a_soak_stays_as_it_is() -> None:
    assert {users_at("soak", second, 100, peak=40) for second in range(100)} == {20}
