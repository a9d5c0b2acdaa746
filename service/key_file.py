"""Lines of keys: what a key file, or a setting, says of each. Pure, but for `make_key`.

    sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 name=search tokens_per_minute=1000000
    a-key-as-it-is requests_per_minute=60

A hash is the unsalted SHA-256 of the key's UTF-8. That is right for keys made at random, of which nobody can try even a
small part, and wrong for passwords, which can be guessed: there is no salt and no work in it.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple

from service.errors import StartupError
from service.rate_limits import Limits

HASHED = "sha256:"
UNLIMITED = "unlimited"
# A key of 128 random bits has so many characters in base64, and more in any other usual form.
SAFE_LENGTH = 22
_RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_LIMITS = {"requests_per_minute": "requests", "tokens_per_minute": "tokens"}
_OPTIONS = f"name= (letters, digits and ._-), and {'= or '.join(_LIMITS)}= (a number from 1 on, or {UNLIMITED})"


class Entry(NamedTuple):
    """One key: its SHA-256, whose it is, what it may do, and whether it stands there as it is and is easy to guess."""

    digest: bytes
    name: str | None
    limits: Limits
    is_short: bool = False

    @property
    def owner(self) -> str | bytes:
        """Keys of one name have one account, so that a key can be changed without a second allowance."""
        return self.name or self.digest


def digest(key: str) -> bytes:
    """SHA-256, 32 bytes."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def make_key() -> str:
    """A new one, of 256 random bits."""
    return f"sk-{secrets.token_urlsafe(_RANDOM_BYTES)}"


def line_of(key: str, *options: str) -> str:
    """What stands for a key in a key file."""
    return " ".join((f"{HASHED}{digest(key).hex()}", *options))


def parse(text: str, usual: Limits, place: str) -> list[Entry]:
    """Entries of the lines that are neither empty nor comments; `usual` is what holds where a line says nothing.

    Raises StartupError with the number of the line, and nothing of what stands in it.
    """
    found: dict[bytes, Entry] = {}
    limits: dict[str, Limits] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        here = f"{place}, line {number}"
        one = parse_line(line, usual, here)
        if found.setdefault(one.digest, one) is not one:
            raise StartupError(f"{here}: the key stands in a line above as well", "leave one of the two out")
        _agree(limits, one, here)
    return list(found.values())


def check_names(entries: Iterable[Entry], place: str) -> None:
    """Of several places together; of a key that stands in two the later line counts. Raises StartupError where keys of
    one name have different limits."""
    limits: dict[str, Limits] = {}
    for one in {one.digest: one for one in entries}.values():
        _agree(limits, one, place)


def _agree(limits: dict[str, Limits], one: Entry, place: str) -> None:
    if one.name is not None and limits.setdefault(one.name, one.limits) != one.limits:
        reason = f"{place}: the name {one.name} has other limits above, or in another place"
        raise StartupError(reason, "keys of one name share their limits: write the same behind each")


def parse_line(line: str, usual: Limits, place: str) -> Entry:
    """A key, and what is said of it. Raises StartupError."""
    key, *words = line.split() or [""]
    if not key:
        raise StartupError(f"{place} is empty", "give it a value, or leave it out")
    name, limits = None, usual
    for word in words:
        option, _, value = word.partition("=")
        if option == "name" and _NAME.fullmatch(value):
            name = value
        elif option in _LIMITS and (limit := _limit(value)) != 0:
            limits = limits._replace(**{_LIMITS[option]: limit})
        else:
            reason = f"{place}: what follows the key is no option, or its value is none"
            raise StartupError(reason, f"a key has no spaces; behind it may stand {_OPTIONS}")
    if not key.lower().startswith(HASHED):
        return Entry(digest(key), name, limits, len(key) < SAFE_LENGTH)
    if not _HASH.fullmatch(hashed := key[len(HASHED) :]):
        raise StartupError(f"{place}: {HASHED} is not followed by 64 hexadecimal digits", "make one: embedserve key")
    return Entry(bytes.fromhex(hashed), name, limits)


def _limit(value: str) -> int | None:
    """0 for what is none."""
    if value == UNLIMITED:
        return None
    return int(value) if re.fullmatch(r"[1-9][0-9]{0,14}", value) else 0
