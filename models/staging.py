"""Folders that appear whole or not at all: written beside their place, flushed, renamed.

A full disk or a request to end (SIGTERM) leaves nothing. A process that is killed leaves at most a folder whose name
begins with `STAGING_PREFIX`; nobody reads those, and the next run removes them: a live run holds a lock on its own.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from service.errors import StartupError

STAGING_PREFIX = ".staging-"
STALE_SECONDS = 3600.0  # no fetch or compile is silent for an hour: where the file system knows no locks
YOUNG_SECONDS = 300.0  # locks that another machine on the same disk may not see are believed only after a while

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def staged(final: Path, *, replace: bool) -> Iterator[Path]:
    """Yields an empty folder beside `final`; on a normal exit it becomes `final`, otherwise it is removed.

    Where `final` exists by then: `replace` puts the new one in its place, otherwise the new one is
    discarded, because another process has finished the same work first. Raises StartupError where the
    disk is full or may not be written.
    """
    folder = _new(final.parent)
    with _ended_by_exception():
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            remove_stale(final.parent)
            folder.mkdir()  # not mkdtemp, whose 0700 would shut out the server's own user
            with _locked(folder):
                yield folder
                _flush(folder)
                _publish(folder, final, replace)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise StartupError(
                    f"{final} cannot be written: {error.strerror}", "free some space, or use another cache folder"
                ) from error
            if error.errno in _NO_PERMISSION:
                raise StartupError(
                    f"{final} cannot be written: {error.strerror}", "use a folder this user may write to"
                ) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """An empty folder in `parent`, removed in the end. As `staged`'s it is locked for as long as it is used, so that
    no other run takes it for what a killed one left. Raises OSError."""
    folder = _new(parent)
    folder.mkdir()
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new(parent: Path) -> Path:
    """Without the name of what it becomes, which may be as long as a name may be."""
    return parent / f"{STAGING_PREFIX}{secrets.token_hex(8)}"


class _Asked(SystemExit):
    """To end, by the signal of this number."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


@contextmanager
def _ended_by_exception() -> Iterator[None]:
    """SIGTERM and SIGINT raise SystemExit, as a process that just ends removes nothing. Behind the block they do what
    they would have done, if they have a handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    usual = {number: handler for number, handler in usual.items() if handler not in (signal.SIG_IGN, None)}
    for number in usual:
        signal.signal(number, _raise)
    try:
        yield
    except _Asked as asked:
        if callable(handler := usual[signal.Signals(asked.number)]):
            handler(asked.number, None)
        raise
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def _raise(number: int, _: object) -> NoReturn:
    raise _Asked(number)


def _flush(folder: Path) -> None:
    """Forces every file to the disk: after a power cut, a renamed folder must not hold empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _publish(folder: Path, final: Path, replace: bool) -> None:
    """Renames; a folder that stands in the way is moved aside first, as rename replaces only empty ones."""
    aside = folder.with_name(f"{folder.name}-old")
    if replace:
        with suppress(FileNotFoundError):
            final.rename(aside)
    try:
        folder.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Removes what killed runs left in `parent`: what is unlocked, or old where locks cannot be had. What is gone
    meanwhile, or another user's, is left alone."""
    for path in parent.glob(f"{STAGING_PREFIX}*"):
        try:
            age = time.time() - path.stat().st_mtime
            if age > YOUNG_SECONDS:
                with _locked(path) as is_ours:
                    if age > STALE_SECONDS if is_ours is None else is_ours:
                        shutil.rmtree(path, ignore_errors=True)
        except (FileNotFoundError, PermissionError):
            continue


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """Holds the lock of a folder, if it can be had: False where another process has it, None where there are none."""
    if sys.platform == "win32":
        yield None
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found: bool | None = True
        except BlockingIOError:
            found = False
        except OSError:  # a network's file system
            found = None
        yield found
    finally:
        os.close(descriptor)
