"""API keys: where clients put them, and whether they are right."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from service.errors import StartupError, Unauthenticated
from service.logs import event

# How often a key file is looked at for a change, in seconds.
_LOOK_EVERY = 1.0


class Keys:
    """The accepted keys, held as digests so that every comparison takes the same time whatever their lengths.

    A key file that is rewritten is read again within a second. One that becomes unreadable or empty changes nothing
    and is logged: neither is everyone locked out, nor is the door opened. Nor is one taken that has a key of
    those from whom these are kept apart.
    """

    def __init__(self, keys: Iterable[str], key_file: Path | None = None, flag: str = "--api-key-file") -> None:
        """Raises StartupError where the file, which `flag` names, is of no use."""
        self._fixed = [_digest(key) for key in keys]
        self._file, self._flag = key_file, flag
        self._of_file = _read_file(key_file, flag) if key_file else []
        self._stamp = _stamp(key_file)
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._others: Keys | None = None

    def check(self, headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> None:
        """Raises Unauthenticated. Does nothing when no keys are set."""
        self._look_again()
        digests = self._fixed + self._of_file
        if not digests:
            return
        presented = presented_key(headers, query)
        if presented is None:
            raise Unauthenticated(None)
        mine = _digest(presented)
        # No early end: every key is compared, so that time does not tell which came close.
        if not sum([hmac.compare_digest(mine, known) for known in digests]):
            raise Unauthenticated(mask(presented))

    def keep_apart(self, others: Keys) -> None:
        """From now on no key is of both, whichever file is rewritten. Raises StartupError where one is already."""
        if self._all() & others._all():
            raise StartupError("an admin key is an API key as well", "give administrators keys of their own")
        self._others, others._others = others, self

    def _all(self) -> set[bytes]:
        return {*self._fixed, *self._of_file}

    def _look_again(self) -> None:
        now = time.monotonic()
        if self._file is None or now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            found = _read_file(self._file, self._flag)
            if self._others is not None and self._others._all() & set(found):
                reason = f"the key file {self._file}: an admin key is an API key as well"
                raise StartupError(reason, "give administrators keys of their own")
        except StartupError as error:
            event(logging.ERROR, f"{error.message}; the keys stay as they were")
            return
        self._of_file = found
        event(logging.INFO, "key file read again", keys=len(found))


def presented_key(headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> str | None:
    """OpenAI's Bearer, Azure's api-key, Google's x-goog-api-key and ?key=; an empty one counts as none."""
    authorization = _text(headers.get(b"authorization", b""))
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for header in (b"api-key", b"x-goog-api-key"):
        if value := _text(headers.get(header, b"")).strip():
            return value
    return query.get("key") or None


def _text(header: bytes) -> str:
    """Clients send what is not ASCII as UTF-8, or as ISO 8859-1."""
    try:
        return header.decode("utf-8")
    except UnicodeDecodeError:
        return header.decode("latin-1")


def _read_file(path: Path, flag: str) -> list[bytes]:
    """Digests of the lines that are neither empty nor comments. Raises StartupError."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"the key file {path} cannot be read: {error}", f"mend {flag}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not keys:
        raise StartupError(f"the key file {path} holds no key", "write one key a line, or leave the flag out")
    return [_digest(key) for key in keys]


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """Changes when the file is rewritten or replaced, as Kubernetes replaces mounted secrets."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_ino, found.st_size) if found else None


def mask(key: str) -> str:
    """As OpenAI shows a wrong key: enough to recognise one's own, too little to use it."""
    return f"{key[:2]}{'*' * 6}{key[-2:]}" if len(key) >= 12 else "*" * len(key)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
