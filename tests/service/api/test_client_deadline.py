"""Headers that say how long a request may take."""

from __future__ import annotations

import pytest

from service.api.client_deadline import client_seconds, repeated
from service.errors import InvalidInput

MS, S = b"x-request-timeout-ms", b"x-server-timeout"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({b"x-other": b"1"}, None),
        ({MS: b"1500"}, 1.5),
        ({MS: b"0.5"}, 0.0005),
        ({S: b"2.25"}, 2.25),
        ({S: b"600"}, 600.0),
        ({S: b"999999999999999"}, 999999999999999.0),
        ({MS: b"100", S: b"1"}, 0.1),
        ({MS: b"3000", S: b"1"}, 1.0),
    ],
)
def test_the_shorter_wish_counts(headers: dict[bytes, bytes], seconds: float | None) -> None:
    assert client_seconds(headers) == seconds


@pytest.mark.parametrize("name", [MS, S])
@pytest.mark.parametrize(
    "value", [b"", b"0", b"0.0", b"-1", b"NaN", b"inf", b"1e3", b"ten", b"1,5", b" 1", b"1s", b"9" * 16, b"1" * 5000]
)
def test_what_is_no_such_number_is_refused_by_name(name: bytes, value: bytes) -> None:
    with pytest.raises(InvalidInput, match=name.decode()):
        client_seconds({name: value, b"x-other": b"1"})


@pytest.mark.parametrize("name", [MS, S])
def test_one_that_is_there_twice_is_refused(name: bytes) -> None:
    found = repeated([(b"x-other", b"1"), (name, b"50"), (b"x-other", b"2"), (name, b"60000")])
    assert found == {name: b"50, 60000"}
    with pytest.raises(InvalidInput, match=name.decode()):
        client_seconds(found)
    assert repeated([(name, b"50"), (b"x-other", b"1"), (b"x-other", b"2")]) == {name: b"50"}
