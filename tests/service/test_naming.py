"""No name for two models."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StartupError
from service.naming import Claim, assign

words = st.sampled_from("abcde")
claims = st.lists(st.builds(Claim, st.none() | words, st.lists(words, max_size=2), words.map("org/{}".format)))


def test_a_model_has_its_name_its_aliases_and_that_of_what_it_was_made_from() -> None:
    assert assign([Claim("a", ["b", "a"], "org/m"), Claim(None, [], "org/n")]) == [["a", "b", "org/m"], ["n", "org/n"]]


def test_what_two_were_made_from_is_the_name_of_neither() -> None:
    assert assign([Claim("a", [], "org/m"), Claim("b", [], "org/m")]) == [["a"], ["b"]]


def test_a_name_that_was_given_wins_over_what_another_was_made_from() -> None:
    assert assign([Claim("a", ["org/n"], "org/m"), Claim("b", [], "org/n")]) == [["a", "org/n", "org/m"], ["b"]]


@pytest.mark.parametrize(
    "claims",
    [
        [Claim("a", []), Claim("a", [])],
        [Claim("a", []), Claim("b", ["c", "a"])],
        [Claim("a", ["c"]), Claim("b", ["c"])],
        [Claim(None, [], "x/m"), Claim(None, [], "y/m")],
        [Claim("m", []), Claim(None, [], "y/m")],
    ],
)
def test_two_that_claim_a_name_are_refused(claims: list[Claim]) -> None:
    with pytest.raises(StartupError, match="is claimed by two models"):
        assign(claims)


@given(claims)
def test_no_name_is_of_two_models(claims: list[Claim]) -> None:
    try:
        found = assign(claims)
    except StartupError:
        return
    names = [name for mine in found for name in mine]
    assert len(names) == len(set(names))
    assert all(mine[0] == claim.own for mine, claim in zip(found, claims, strict=True))
