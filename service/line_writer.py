"""Lines for a file descriptor that may not take them: a pipe that nobody reads any more must hold up no request.

Whoever has a line leaves it here, and a thread writes what has come, some times a second at most, so that many lines
take few writes. What waits is bounded; what comes beyond that is lost, counted, and told of at its place as soon as
lines are taken again.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterable, Iterator

PAUSE = 0.02  # seconds from one write to the next
_IN_ONE_PIECE = getattr(select, "PIPE_BUF", 4096)  # which Windows does not have
ROOM = 1 << 20  # bytes that may wait, beside those that are being written


class LineWriter:
    """`put` may be called from any thread, and never waits for who reads."""

    def __init__(self, file: int, name: str, tell_lost: Callable[[int], bytes]) -> None:
        """Writes to a duplicate of `file`. `tell_lost` gives the line that says how many were lost."""
        self._file = os.dup(file)
        self._tell_lost = tell_lost
        self._lock = threading.Lock()  # of the next four
        self._waiting: list[bytes] = []
        self._size = 0  # bytes of them
        self._dropped = 0  # lines that came behind them and found no room
        self._lost = 0
        self._something = threading.Event()
        self._nothing = threading.Event()  # waits or is being written
        self._nothing.set()
        self._closing = threading.Event()
        self._untold = 0  # lines that could not be written since the last ones that could; the thread's own
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> int:
        """Lines that were never written, so far."""
        return self._lost

    def put(self, line: bytes) -> None:
        """With its line break."""
        with self._lock:
            if self._dropped or self._size > ROOM:
                self._dropped += 1
                self._lost += 1
                return
            self._waiting.append(line)
            self._size += len(line)
            is_first = len(self._waiting) == 1
        if is_first:
            self._nothing.clear()
            self._something.set()

    def settle(self, seconds: float) -> None:
        """Waits until all there is has been written, so long at most."""
        self._nothing.wait(seconds)

    def close(self, seconds: float) -> None:
        """Waits likewise, and ends the thread where it can be ended. Nothing is written any more."""
        self._closing.set()
        self._something.set()
        self._thread.join(seconds)

    def _work(self) -> None:
        """On the thread."""
        while True:
            self._something.wait()
            is_last = self._closing.is_set()
            self._something.clear()
            self._write_waiting()
            if is_last:
                os.close(self._file)
                return
            self._closing.wait(PAUSE)

    def _write_waiting(self) -> None:
        with self._lock:
            lines, self._waiting, self._size = self._waiting, [], 0
            dropped, self._dropped = self._dropped, 0
        if lines:
            told = [self._tell_lost(count) if count else b"" for count in (self._untold, dropped)]
            if all(_written(self._file, piece) for piece in _pieces([told[0], *lines, told[1]])):
                self._untold = 0
            else:
                self._untold += len(lines) + dropped
                with self._lock:
                    self._lost += len(lines)
        with self._lock:
            if not self._waiting:
                self._nothing.set()


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    """As many whole lines at once as a pipe takes in one piece (pipe(7)), so that they do not mix with other processes'
    lines in the same pipe; a longer line may."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > _IN_ONE_PIECE:
            yield piece
            piece = b""
        piece += line
    yield piece


def _written(file: int, data: bytes) -> bool:
    """Whether all of it was: a full disk or a closed pipe takes nothing."""
    while data:
        try:
            data = data[os.write(file, data) :]
        except BlockingIOError:  # somebody who shares the pipe wants it so
            time.sleep(PAUSE)
        except OSError:
            return False
    return True
