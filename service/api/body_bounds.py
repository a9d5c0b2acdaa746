"""How much a JSON body may hold, found by counting before it is parsed. Pure.

A parser makes an object of every value and holds the interpreter's lock meanwhile: 4 MB of `[1],` are half a second
of everybody's time, and several seconds where each of them is a complaint. Token ids may be many; lists, objects and
texts that one request may have are few.
"""

from __future__ import annotations

from service.errors import InvalidInput, MalformedBody

_STRINGS_AN_ITEM = 4  # an object's keys and values


def check_bounds(body: bytes, most_values: int, most_items: int) -> None:
    """Raises InvalidInput for more than `most_values` values; MalformedBody for more lists and objects than
    `most_items`, which mostly are deeper than any parser goes, or four times as many strings. What is within strings
    does not count; a body that is no JSON is counted rightly up to its first error.
    """
    if len(body) <= most_items or _is_small(body, most_values, most_items):
        return
    # Without escapes, every quote begins or ends a string.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * _STRINGS_AN_ITEM * most_items:
        raise MalformedBody(f"The body has more than {_STRINGS_AN_ITEM * most_items} strings, which no request has.")
    outside = b"".join(bare.split(b'"')[::2])
    if outside.count(b"[") + outside.count(b"{") > most_items:
        raise MalformedBody(f"The body has more than {most_items} lists and objects, which no request has.")
    if outside.count(b",") > most_values:
        raise InvalidInput(f"The body has more than {most_values} values, which no request has.")


def _is_small(body: bytes, most_values: int, most_items: int) -> bool:
    """Even if all of it counted."""
    return (
        body.count(b'"') <= 2 * most_items
        and body.count(b"[") + body.count(b"{") <= most_items
        and body.count(b",") <= most_values
    )
