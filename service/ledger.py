"""What keys have spent, where several processes take their requests: a table in memory that all of them share.

A row is one bucket: whose it is, its level, and the time of that. Times are of a clock that all processes of a machine
read alike. Rows are added and never move, so that each process knows where those are that it has seen. Whoever changes
a row has a lock on it meanwhile, of those that the kernel lifts when a process ends (fcntl(2), POSIX locks): a process
that is killed leaves nothing locked.
"""

from __future__ import annotations

import logging
import mmap
import os
import tempfile
import time
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from hashlib import blake2b
from types import TracebackType

from service.errors import StartupError
from service.logs import event
from service.rate_limits import STATE_BYTES, Bucket

ROWS = 1 << 18  # of keys and of limits that are gone, too: a thousand new ones a day are eight months of them
_ID = 16  # bytes
_ROW = _ID + STATE_BYTES
_HEAD = _ROW  # before the rows: how many there are
_COUNT = 8  # bytes of that
_SIZE = _HEAD + ROWS * _ROW

# Who holds a row's lock needs it for some microseconds. One who does not give it back was stopped in the middle, and
# nobody waits for that: one request more or less is counted then. For a while it is not even tried again.
_PAUSE, _TRIES, _HASTY_SECONDS = 0.0005, 10, 1.0
_TRIES_TO_ADD = 2_000  # at the start and when keys change: there is more to wait for


class Ledger:
    """One process's view of the table. Its event loop alone uses it."""

    def __init__(self, file: int) -> None:
        """The table in an open file, which `make` gives."""
        self.file = file
        self._memory = mmap.mmap(file, _SIZE)
        self._rows: dict[bytes, int] = {}  # name → where it begins, of those seen so far
        self._hasty_until = 0.0  # by time.monotonic
        self._has_told = False

    @classmethod
    def make(cls) -> Ledger:
        """A new one, in memory alone if that can be had. Raises StartupError."""
        try:
            file = _memory_file()
            os.ftruncate(file, _SIZE)
        except OSError as error:
            reason = f"the table of limits that several processes share cannot be made: {error.strerror}"
            remedy = f"allow memfd_create, or a temporary file of {_SIZE >> 20} MB, or leave --processes out"
            raise StartupError(reason, remedy) from None
        return cls(file)

    def bucket(self, owner: str | bytes, kind: str, per_minute: int, now: int) -> Bucket:
        """Full, where no process has asked for it yet. Another limit is another bucket. Where there is no room any
        more, it is this process's own."""
        name = blake2b(repr((owner, kind, per_minute)).encode(), digest_size=_ID).digest()
        start = self._rows.get(name) or self._added(name, per_minute, now)
        return Bucket(per_minute, now) if start is None else _SharedBucket(per_minute, now, self, start)

    def lock(self, start: int, tries: int = _TRIES) -> bool:
        """The row that begins there, unless somebody holds on to it: whether it is locked now."""
        is_hasty = time.monotonic() < self._hasty_until
        for number in range(1 if is_hasty else tries):
            if number:
                time.sleep(_PAUSE)
            with suppress(BlockingIOError, PermissionError):  # POSIX allows either for a lock that another process has
                lockf(self.file, LOCK_EX | LOCK_NB, _ROW, start)
                return True
        if not is_hasty:
            self._hasty_until = time.monotonic() + _HASTY_SECONDS
        return False

    def unlock(self, start: int) -> None:
        """Also where it could not be locked."""
        lockf(self.file, LOCK_UN, _ROW, start)

    def read(self, start: int) -> bytes:
        """The state of the row that begins there."""
        return self._memory[start + _ID : start + _ROW]

    def write(self, start: int, state: bytes) -> None:
        """The same."""
        self._memory[start + _ID : start + _ROW] = state

    def _added(self, name: bytes, per_minute: int, now: int) -> int | None:
        """Where its row begins, which another process may have added; None where there can be none."""
        if not self.lock(0, _TRIES_TO_ADD):
            self._tell("another process holds on to it")
            return None
        try:
            count = int.from_bytes(self._memory[:_COUNT], "little")
            for number in range(len(self._rows), count):
                start = _HEAD + number * _ROW
                self._rows[self._memory[start : start + _ID]] = start
            if name in self._rows:
                return self._rows[name]
            if count == ROWS:
                self._tell(f"{ROWS} limits are in it, with those that are gone")
                return None
            start = _HEAD + count * _ROW
            self._memory[start : start + _ROW] = name + Bucket(per_minute, now).state
            self._memory[:_COUNT] = (count + 1).to_bytes(_COUNT, "little")
            self._rows[name] = start
            return start
        finally:
            self.unlock(0)

    def _tell(self, reason: str) -> None:
        """Once."""
        if not self._has_told:
            self._has_told = True
            event(logging.ERROR, f"limits of new keys hold for each process alone, as the table is closed: {reason}")


class _SharedBucket(Bucket):
    """Its state is the table's; what it holds itself is of the last look."""

    __slots__ = ("_ledger", "_seen", "_start")

    def __init__(self, per_minute: int, now: int, ledger: Ledger, start: int) -> None:
        super().__init__(per_minute, now)
        self._ledger = ledger
        self._start = start

    def take(self, amount: int, now: int) -> bool:
        with self:
            return super().take(amount, now)

    def give_back(self, amount: int, now: int) -> None:
        with self:
            super().give_back(amount, now)

    def wait(self, amount: int, now: int) -> int:
        with self:
            return super().wait(amount, now)

    def left(self, now: int) -> int:
        with self:
            return super().left(now)

    def standing(self, now: int) -> tuple[int, int]:
        """Without a lock, which costs more than all else here: it is for people, and old when they read it."""
        self.state = self._ledger.read(self._start)
        return Bucket.left(self, now), Bucket.wait(self, self.per_minute, now)

    def _fill(self, now: int) -> None:
        super()._fill(max(now, self._at))  # another process may have looked since the caller read the clock

    def __enter__(self) -> None:
        self._ledger.lock(self._start)
        self._seen = self.state = self._ledger.read(self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Where this process was stopped meanwhile, others have gone on without its lock: what they wrote counts.
        if self._ledger.read(self._start) == self._seen:
            self._ledger.write(self._start, self.state)
        self._ledger.unlock(self._start)


def _memory_file() -> int:
    """Raises OSError."""
    with suppress(OSError):
        return os.memfd_create("embedserve-limits")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
