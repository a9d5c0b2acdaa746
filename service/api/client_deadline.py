"""The time that a client gives its request, by a header.

- `x-request-timeout-ms`: milliseconds.
- `X-Server-Timeout`: seconds, as Google's clients send them (a system parameter of Google's APIs).

Both are decimal numbers above 0; where both are there, the shorter one counts. They shorten the server's own limit and
never lengthen it. What is no such number is refused: left aside, it would be a request without the limit that its
client relies on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from service.errors import InvalidInput

_IN_MILLISECONDS = b"x-request-timeout-ms"
_IN_SECONDS = b"x-server-timeout"
_DECIMAL = re.compile(rb"[0-9]{1,15}(\.[0-9]{1,15})?")


def repeated(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Each of these headers with all of its values, as RFC 9110, 5.3 joins those of one that is there several times:
    what is no number then is refused, where the last of them would have been taken."""
    return {
        name: b", ".join(values)
        for name in (_IN_MILLISECONDS, _IN_SECONDS)
        if (values := [value for one, value in headers if one == name])
    }


def client_seconds(headers: Mapping[bytes, bytes]) -> float | None:
    """The seconds that a request may take by its client's wish; None without one. Raises InvalidInput."""
    if _IN_MILLISECONDS not in headers and _IN_SECONDS not in headers:  # nearly always
        return None
    asked = ((_IN_MILLISECONDS, 1000.0, "milliseconds"), (_IN_SECONDS, 1.0, "seconds"))
    return min(_seconds(headers[name], name, scale, unit) for name, scale, unit in asked if name in headers)


def _seconds(value: bytes, name: bytes, scale: float, unit: str) -> float:
    found = float(value) / scale if _DECIMAL.fullmatch(value) else 0.0
    if not found:
        raise InvalidInput(f"The header {name.decode()} is not a number of {unit} above 0, such as 1500 or 0.5.")
    return found
