"""The four forms of OpenAI's `input`."""

from __future__ import annotations

from typing import Any

import pytest

from service.api.openai_fields import parse_inputs
from service.errors import InvalidInput, TooManyInputs


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", ""], ["a", ""]),
        ([{"text": "a"}, "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        (list(range(3000)), [list(range(3000))]),
    ],
)
def test_every_form_is_a_list_of_texts_or_token_arrays(value: Any, expected: list[Any]) -> None:
    assert parse_inputs(value, 2048) == expected


@pytest.mark.parametrize(
    "value",
    [[], [[]], [[1], []], ["a", 1], [1, "a"], [[1], "a"], [[1, "a"]], [True], [1.0], [None], [["a"]], {}, 3, None, True,
     [10**30], [{}], [{"text": 1}], [{"text": "a", "image": "b"}], [[1], {"text": "a"}]],
)  # fmt: skip
def test_anything_else_is_refused_with_what_is_wrong(value: Any) -> None:
    with pytest.raises(InvalidInput, match="input") as refused:
        parse_inputs(value, 2048)
    assert refused.value.param == "input"


def test_the_limit_counts_texts() -> None:
    assert len(parse_inputs(["a"] * 3, 3)) == 3
    with pytest.raises(TooManyInputs):
        parse_inputs(["a"] * 4, 3)
    with pytest.raises(TooManyInputs):
        parse_inputs([[1]] * 4, 3)
