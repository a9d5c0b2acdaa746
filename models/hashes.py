"""sha256 of files, remembered: 90 MB need not be read again to learn that nothing changed."""

from __future__ import annotations

import json
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path

from service.bundle import sha256_of

# A file may change twice within one tick of the file system's clock and keep its stamps: what is this
# young when it is hashed is not remembered.
_TICK_NS = 50_000_000


class FileHashes:
    """A memo from (path, size, modification time, change time) to sha256, kept in one JSON file.

    The change time is there because tools that preserve modification times cannot preserve it. Losing the
    file, or an update of it to another process, costs only the hashing.
    """

    def __init__(self, memo: Path) -> None:
        self._memo = memo
        self._known: dict[str, list[int | str]] = {}
        self._changed = False
        try:
            known = json.loads(memo.read_bytes())
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(known, dict):
            self._known = known

    def of(self, path: Path) -> str:
        """Hex digest of the file's content. Raises OSError."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        key = str(path.resolve())
        known = self._known.get(key)
        if isinstance(known, list) and known[:-1] == stamp:
            return str(known[-1])
        digest = sha256_of(path)
        if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _TICK_NS:
            self._known[key] = [*stamp, digest]
            self._changed = True
        return digest

    def save(self) -> None:
        """Writes the memo if it changed; a cache folder that cannot be written is no reason to fail."""
        if not self._changed:
            return
        temporary = self._memo.with_name(f"{self._memo.name}.{secrets.token_hex(4)}")
        try:
            self._memo.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(json.dumps(self._known, indent=0), "utf-8")
            os.replace(temporary, self._memo)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
