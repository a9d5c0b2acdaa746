"""What is counted in a body before it is parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.body_bounds import check_bounds
from service.errors import InvalidInput, MalformedBody

VALUES, ITEMS = 40, 5


def bounded(body: bytes) -> bool:
    try:
        check_bounds(body, VALUES, ITEMS)
    except (InvalidInput, MalformedBody):
        return False
    return True


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * VALUES + b"1]",
        b'["' + b"[{,\\\\" * 1_000 + b'"]',
        b'["' + b'\\",' * 1_000 + b'"]',
        b'["a\\\\","' + b"[" * 100 + b'"]',
        b"{" + b",".join(b'"%d":"a"' % i for i in range(10)) + b"}",
    ],
    ids=ascii,
)
def test_as_much_as_a_request_may_hold(body: bytes) -> None:
    assert bounded(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"1," * (VALUES + 1) + b"1]",
        b"[" + b"[]," * ITEMS + b"[]]",
        b'["a\\\\",' + b"{}," * ITEMS + b'"]"]',
        b"[" * (ITEMS + 1),
        b'["' + b'","' * 40 + b'"]',
        b'"' * 100,
    ],
    ids=ascii,
)
def test_more(body: bytes) -> None:
    assert not bounded(body)


def weigh(value: Any) -> tuple[int, int, int]:
    """Commas, lists and objects, strings."""
    if isinstance(value, str):
        return 0, 0, 1
    if not isinstance(value, list | dict):
        return 0, 0, 0
    inner = list(value) if isinstance(value, list) else [*value, *value.values()]
    each = [weigh(one) for one in inner]
    commas, items, strings = (sum(column) for column in zip(*each, strict=True)) if each else (0, 0, 0)
    return commas + max(0, len(value) - 1), items + 1, strings


texts = st.text(st.sampled_from('[]{},"\\:a\n'), max_size=12)
documents = st.recursive(
    st.integers() | texts,
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(texts, inner, max_size=12),
    max_leaves=40,
)


@given(document=documents)
def test_counts_are_those_of_the_document(document: Any) -> None:
    body = json.dumps(document).encode()
    commas, items, strings = weigh(document)
    fits = commas <= VALUES and items <= ITEMS and strings <= 4 * ITEMS
    assert bounded(body) == (fits or len(body) <= ITEMS)
