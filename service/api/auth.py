"""API keys: where clients put them, and whether they are right."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from service import metrics
from service.errors import StartupError, Unauthenticated
from service.file_stamps import Stamp, stamp
from service.key_file import SAFE_LENGTH, Entry, check_names, digest, parse, parse_line
from service.ledger import Ledger
from service.logs import event
from service.rate_limits import Bucket, Limits
from service.spending import Account

# How often a key file is looked at for a change, in seconds.
_LOOK_EVERY = 1.0
_IN_BOTH = "an admin key is an API key as well"


class Keys:
    """The accepted keys, held as digests so that every comparison takes the same time whatever their lengths.

    A key file that is rewritten is read again within a second. One that becomes unreadable or empty changes nothing
    and is logged: neither is everyone locked out, nor is the door opened. Nor is one taken that has a key of
    those from whom these are kept apart, as their own file says then: one change may move a key from file to file.
    Each key has an account, or those of one name have one together; it stays when the file is read again, as long as
    its limits do.
    """

    def __init__(
        self,
        keys: Iterable[str],
        key_file: Path | None = None,
        flag: str = "--api-key-file",
        limits: Limits = Limits(),  # noqa: B008 - nothing can change it
        ledger: Ledger | None = None,
    ) -> None:
        """`limits` hold for every key, or for all clients together where there is none; in the `ledger` is what they
        have spent, where other processes take requests of the same keys. Raises StartupError where the file, which
        `flag` names, is of no use."""
        place = flag.removesuffix("-file")
        self._limits, self._ledger = limits, ledger
        self._fixed = [parse_line(key, limits, f"a key of {place}s") for key in keys]
        check_names(self._fixed, f"{place}s")
        self._file, self._flag = key_file, flag
        self._stamp = self._look()
        self._of_file = self._read_file()
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._others: Keys | None = None
        self._everybody = None if limits == Limits() else self._account("", None, limits)
        self._accounts: dict[str | bytes, Account] = {}
        self._known: list[tuple[bytes, Account]] = []
        self._open_accounts()
        _warn_of_short(self._fixed, f"{place}s")
        _warn_of_short(self._of_file, f"the key file {key_file}")

    def check(self, headers: Mapping[bytes, bytes], query: Mapping[str, str]) -> Account | None:
        """Whose key it is. Raises Unauthenticated. Where no keys are set, everybody's account; None without limits."""
        self._look_again()
        if not self._known:
            return self._everybody
        presented = presented_key(headers, query)
        if presented is None:
            raise Unauthenticated(None)
        mine = digest(presented)
        # No early end: every key is compared, so that time does not tell which came close.
        found = [account for known, account in self._known if hmac.compare_digest(mine, known)]
        if not found:
            raise Unauthenticated(mask(presented))
        return found[-1]  # what the file says of a key that is a setting's as well

    def keep_apart(self, others: Keys) -> None:
        """From now on no key is of both, whichever file is rewritten. Raises StartupError where one is already."""
        if self._all() & others._all():
            raise StartupError(_IN_BOTH, "give administrators keys of their own")
        self._others, others._others = others, self

    def _all(self) -> set[bytes]:
        return self._digests(self._of_file)

    def _digests(self, of_file: Iterable[Entry]) -> set[bytes]:
        return {one.digest for one in (*self._fixed, *of_file)}

    def _open_accounts(self) -> None:
        before, self._accounts, self._known = self._accounts, {}, []
        for one in (*self._fixed, *self._of_file):
            account = self._accounts.get(one.owner) or before.get(one.owner)
            if account is None or account.limits != one.limits:
                account = self._account(one.owner, one.name, one.limits)
            self._accounts[one.owner] = account
            self._known.append((one.digest, account))
        for name in before.keys() - self._accounts.keys():
            if isinstance(name, str):
                metrics.forget_key(name)

    def _account(self, owner: str | bytes, name: str | None, limits: Limits) -> Account:
        """With buckets of this process's own, or those of all that have the ledger."""
        now, ledger = time.monotonic_ns(), self._ledger

        def bucket(kind: str, per_minute: int) -> Bucket:
            return Bucket(per_minute, now) if ledger is None else ledger.bucket(owner, kind, per_minute, now)

        return Account(name, limits, bucket)

    def _look_again(self) -> None:
        """At the others' file as well, so that what is in force is always what both say together."""
        if self._file is None or (now := time.monotonic()) < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        both = [self] if self._others is None else [self, self._others]
        stamps = [one._look() for one in both]
        if stamps == [one._stamp for one in both]:
            return
        for one, found in zip(both, stamps, strict=True):
            one._stamp = found
        newest = [one._newest() for one in both]
        if len(both) > 1 and set.intersection(*map(Keys._digests, both, newest)):
            event(logging.ERROR, f"the key file {self._file}: {_IN_BOTH}; the keys stay as they were")
            return
        for one, entries in zip(both, newest, strict=True):
            one._take(entries)

    def _look(self) -> Stamp | None:
        return None if self._file is None else stamp(self._file)

    def _newest(self) -> list[Entry]:
        """What the file says; where it is of no use, what it said."""
        try:
            return self._read_file()
        except StartupError as error:
            event(logging.ERROR, f"{error.message}; the keys stay as they were")
            return self._of_file

    def _take(self, entries: list[Entry]) -> None:
        if entries == self._of_file:
            return
        self._of_file = entries
        self._open_accounts()
        _warn_of_short(entries, f"the key file {self._file}")
        event(logging.INFO, "key file read again", keys=len(entries))

    def _read_file(self) -> list[Entry]:
        """Raises StartupError."""
        path = self._file
        if path is None:
            return []
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"  # whose own words quote a byte
            raise StartupError(f"the key file {path} cannot be read: {reason}", f"mend {self._flag}") from None
        found = parse(text, self._limits, f"the key file {path}")
        if not found:
            raise StartupError(f"the key file {path} holds no key", "write one key a line, or leave the flag out")
        check_names((*self._fixed, *found), f"the key file {path}")
        return found


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


def _warn_of_short(entries: Iterable[Entry], place: str) -> None:
    if short := sum(one.is_short for one in entries):
        reason = f"{place}: {short} of the keys have fewer than {SAFE_LENGTH} characters, and may be guessed"
        event(logging.WARNING, f"{reason}; embedserve key makes better ones")


def mask(key: str) -> str:
    """As OpenAI shows a wrong key: enough to recognise one's own, too little to use it."""
    return f"{key[:2]}{'*' * 6}{key[-2:]}" if len(key) >= 12 else "*" * len(key)
