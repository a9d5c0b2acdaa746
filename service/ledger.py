"""What keys have spent, where several processes take their requests: a table in memory that all of them share.

A row is one bucket: whose it is, its level, and the time of that. Times are of a clock that all processes of a machine
read alike. Whoever changes a row has a lock on it meanwhile, of those that the kernel lifts when a process ends
(fcntl(2), POSIX locks): a process that is killed leaves nothing locked.
"""

from __future__ import annotations

import mmap
import os
import time
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, lockf
from hashlib import blake2b
from types import TracebackType

from service.errors import StartupError
from service.rate_limits import Bucket

ROWS = 1 << 16
_ID, _LEVEL, _TIME = 16, 16, 8  # bytes; a level is 10^15 · MINUTE at most, which 16 bytes hold
_ROW = 48
_NOBODY = bytes(_ID)
_SIZE = ROWS * _ROW
# Who holds a lock needs it for some microseconds. One who does not give it back was stopped in the middle, and nobody
# waits for that: then one request more or less is counted.
_PAUSE, _TRIES = 0.0005, 100


class Ledger:
    """One process's view of the table. Its event loop alone uses it."""

    def __init__(self, file: int) -> None:
        """The table in an open file, which `make` gives."""
        self.file = file
        self._memory = mmap.mmap(file, _SIZE)

    @classmethod
    def make(cls) -> Ledger:
        """A new one, in memory alone. Raises OSError."""
        file = os.memfd_create("embedserve-limits")
        os.ftruncate(file, _SIZE)
        return cls(file)

    def bucket(self, owner: bytes, kind: str, per_minute: int, now: int) -> Bucket:
        """Full, where no process has asked for it yet. Another limit is another bucket. Raises StartupError where the
        table is full."""
        name = blake2b(b"%b %d %b" % (kind.encode(), per_minute, owner), digest_size=_ID).digest()
        _lock(self.file, _SIZE, 1)
        try:
            start, is_new = self._find(name)
            bucket = _SharedBucket(per_minute, now, self, start)
            if is_new:
                bucket.store()
                self._memory[start : start + _ID] = name
        finally:
            lockf(self.file, LOCK_UN, 1, _SIZE)
        return bucket

    def read(self, start: int) -> tuple[int, int]:
        """Level and time of the row that begins there."""
        level, end = start + _ID, start + _ID + _LEVEL
        memory = self._memory
        return int.from_bytes(memory[level:end], "little"), int.from_bytes(memory[end : end + _TIME], "little")

    def write(self, start: int, level: int, at: int) -> None:
        """The same of a row that is locked, or that nobody has found yet."""
        state = level.to_bytes(_LEVEL, "little") + at.to_bytes(_TIME, "little")
        self._memory[start + _ID : start + _ID + len(state)] = state

    def _find(self, name: bytes) -> tuple[int, bool]:
        """Where its row begins, and whether it was nobody's until now."""
        first = int.from_bytes(name[:8], "little")
        for number in range(ROWS):
            start = (first + number) % ROWS * _ROW
            found = self._memory[start : start + _ID]
            if found in (name, _NOBODY):
                return start, found == _NOBODY
        reason = f"keys have had more than {ROWS} limits since the start, which is what several processes keep together"
        raise StartupError(reason, "give keys of one owner one name, or start the server anew")


class _SharedBucket(Bucket):
    """Its state is the table's; what it holds itself is of the last look."""

    __slots__ = ("_ledger", "_start")

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
        self._level, self._at = self._ledger.read(self._start)
        return Bucket.left(self, now), Bucket.wait(self, self.per_minute, now)

    def store(self) -> None:
        """What is held here becomes the table's."""
        self._ledger.write(self._start, self._level, self._at)

    def _fill(self, now: int) -> None:
        super()._fill(max(now, self._at))  # another process may have looked since the caller read the clock

    def __enter__(self) -> None:
        _lock(self._ledger.file, self._start, _ROW)
        self._level, self._at = self._ledger.read(self._start)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.store()
        lockf(self._ledger.file, LOCK_UN, _ROW, self._start)


def _lock(file: int, start: int, size: int) -> None:
    for _ in range(_TRIES):
        with suppress(BlockingIOError, PermissionError):  # POSIX allows either for a lock that another process has
            lockf(file, LOCK_EX | LOCK_NB, size, start)
            return
        time.sleep(_PAUSE)
