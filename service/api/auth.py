"""API keys: where clients put them, and whether they are right."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from pathlib import Path

from service.errors import StartupError, Unauthenticated


class Keys:
    """The accepted keys, held as digests so that every comparison takes the same time whatever their lengths."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._digests = [_digest(key) for key in keys]

    def check(self, headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> None:
        """Raises Unauthenticated. Does nothing when no keys are set."""
        if not self._digests:
            return
        presented = presented_key(headers, query)
        if presented is None:
            raise Unauthenticated(None)
        mine = _digest(presented)
        # No early end: every key is compared, so that time does not tell which came close.
        if not sum([hmac.compare_digest(mine, known) for known in self._digests]):
            raise Unauthenticated(mask(presented))


def presented_key(headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> str | None:
    """OpenAI's Bearer, Azure's api-key, Google's x-goog-api-key and ?key=; an empty one counts as none."""
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for header in (b"api-key", b"x-goog-api-key"):
        if value := headers.get(header, b"").decode("latin-1").strip():
            return value
    return query.get("key") or None


def read_keys(keys: Iterable[str], key_file: Path | None) -> Keys:
    """Keys of the settings and of the file together. Raises StartupError."""
    found = list(keys)
    if key_file is not None:
        try:
            lines = key_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise StartupError(f"the key file {key_file} cannot be read: {error}", "mend --api-key-file") from None
        mine = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if not mine:
            raise StartupError(f"the key file {key_file} holds no key", "write one key a line, or leave the flag out")
        found += mine
    return Keys(found)


def mask(key: str) -> str:
    """As OpenAI shows a wrong key: enough to recognise one's own, too little to use it."""
    return f"{key[:2]}{'*' * 6}{key[-2:]}" if len(key) >= 12 else "*" * len(key)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
