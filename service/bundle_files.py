"""Whether the files of a bundle that is served are still what was loaded.

Weights are mapped, not read: whoever writes into such a file changes vectors of the running process, and every reply
would be wrong with status 200. What is put in place by rename is another file, and changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from service.bundle import Bundle, sha256_of
from service.file_stamps import Stamp, stamp


class BundleFiles:
    """Of one bundle. `look_again` may run on any thread, on one at a time."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        """Before they are opened, and before their hashes are compared."""
        self._folder, self._bundle = folder, bundle
        self._stamps = dict(self._look())
        self.damage: str | None = None  # once there is any, it stays

    def look_again(self) -> None:
        """Reads files that were written to, and remembers one that is not what bundle.json says. Blocks."""
        if self.damage is not None:
            return
        for name, found in self._look().items():
            if not self._was_written(name, found):
                continue
            path = self._folder / name
            try:
                content = sha256_of(path)
            except OSError:  # it has just been taken away, which does no harm
                continue
            if content != self._bundle.files[name]:
                self.damage = f"{path} was written to while it was served, and is corrupt"
            self._stamps[name] = found

    def _was_written(self, name: str, found: Stamp | None) -> bool:
        """Not by being replaced or taken away: what was opened is still there for who has it open."""
        known = self._stamps[name]
        return known is not None and found is not None and found.file == known.file and found != known

    def _look(self) -> Mapping[str, Stamp | None]:
        return {name: stamp(self._folder / name) for name in self._bundle.files}
