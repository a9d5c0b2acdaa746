"""What a header may hold."""

from __future__ import annotations

import pytest

from service.protocol import header_lines


def test_one_line_a_header() -> None:
    assert header_lines([("a", "1"), ("b", "2 3")]) == "\r\na: 1\r\nb: 2 3"


@pytest.mark.parametrize("bad", ["\r\nset-cookie: x", "\n", "\r", "\0"])
def test_no_header_becomes_two(bad: str) -> None:
    for headers in ([("a", f"1{bad}")], [("b", "2"), (f"a{bad}", "1")]):
        with pytest.raises(ValueError, match="line break"):
            header_lines(headers)
