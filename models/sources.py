"""What a user names → a checkpoint on this disk: a folder, a file of word vectors, a catalogue name, a hub id."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from models import catalogue
from models.catalogue import Entry, HubSource, Unusable, WheelSource
from models.hashes import FileHashes
from models.staging import staged
from service.errors import SourceError

Say = Callable[[str], None]
"""Takes one line of progress for a person to read."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (
    "config.json, model.safetensors (or onnx/model.onnx), tokenizer.json, tokenizer_config.json, modules.json, "
    "1_Pooling/config.json, sentence_bert_config.json, config_sentence_transformers.json"
)


@dataclass(frozen=True)
class Place:
    """Where a checkpoint lies, or will lie once it is fetched. `candidates` is empty for a folder of the user's.

    `file`: the checkpoint is this one file of `folder`, of word vectors.
    """

    model_id: str
    folder: Path
    candidates: tuple[HubSource | WheelSource, ...] = ()
    entry: Entry | None = None
    file: str | None = None

    def mismatch(self, folder: Path, hashes: FileHashes) -> str | None:
        """Why `folder` is not what the catalogue names, in one line, or None."""
        for name, expected in (self.entry.sha256 if self.entry else {}).items():
            path = folder / name
            if not path.is_file():
                return f"{name} is missing"
            if (actual := hashes.of(path)) != expected:
                return f"{name} has sha256 {actual}, not {expected}"
        return None


def memo(cache_dir: Path) -> FileHashes:
    """The hashes remembered in this cache."""
    return FileHashes(cache_dir / "hashes.json")


def locate(source: str, cache_dir: Path) -> Place:
    """Without touching the network. An existing path wins over a name, as it does in sentence-transformers.

    Raises SourceError for what is none of them.
    """
    folder = Path(os.path.expanduser(source))
    if folder.is_dir():
        folder = folder.resolve()
        return Place(readable(folder.name) or "model", folder)
    if folder.is_file():
        return Place(_without_suffix(readable(folder.name)), folder.parent.resolve(), file=folder.name)
    if entry := catalogue.find(source):
        return Place(entry.id, _cached(entry.id, cache_dir), entry.source, entry)
    if _HUB_ID.fullmatch(source):
        return Place(source, _cached(source, cache_dir), (HubSource(repository=source),))
    known = ", ".join(name for entry in catalogue.entries() for name in (*entry.names, entry.id))
    raise SourceError(
        f"{source!r} is neither a folder, nor a file, nor a model known by name ({known}), "
        "nor a hub id (organisation/name)",
        "pass the path of a checkpoint folder, or one of those names",
    )


def fetch(source: str, cache_dir: Path, say: Say) -> Path:
    """The checkpoint folder, fetched if it is not here yet. Raises SourceError, StartupError (disk)."""
    place = locate(source, cache_dir)
    if not place.candidates:
        return place.folder
    hashes = memo(cache_dir)
    reasons: list[str] = []
    if found := place.folder.is_dir():
        if (mismatch := place.mismatch(place.folder, hashes)) is None:
            hashes.save()
            return place.folder
        say(f"not using {place.folder}: {mismatch}")
        reasons.append(f"{place.folder}: {mismatch}")
    for candidate in place.candidates:
        say(f"fetching {place.model_id} from {candidate}")
        reason = _try(candidate, place, hashes, replace=found)
        if reason is None:
            hashes.save()
            return place.folder
        say(f"not from {candidate}: {reason}")
        reasons.append(f"{candidate}: {reason}")
    raise SourceError(
        f"{place.model_id} could not be fetched:" + "".join(f"\n    {reason}" for reason in reasons),
        f"put its files ({_FILES}) into {place.folder}, or pass the path of a folder that holds them",
    )


def _try(candidate: HubSource | WheelSource, place: Place, hashes: FileHashes, *, replace: bool) -> str | None:
    """Fetches from one source into the cache; returns why it could not, in one line."""
    try:
        with staged(place.folder, replace=replace) as folder:
            _download(candidate, folder)
            if mismatch := place.mismatch(folder, hashes):
                raise Unusable(f"{mismatch}: what came is not what was asked for")
    except Unusable as error:
        return str(error)
    return None


def _download(candidate: HubSource | WheelSource, folder: Path) -> None:
    """Raises Unusable."""
    if isinstance(candidate, HubSource):
        from models import hub

        hub.download(candidate, folder)
    else:
        from models import wheel

        wheel.download(candidate, folder)


def readable(name: str) -> str:
    """With signs in place of what is not UTF-8, which a path may hold and a JSON file may not."""
    return os.fsencode(name).decode("utf-8", "replace")


def _without_suffix(name: str) -> str:
    """glove.6B.50d.txt.gz is glove.6B.50d."""
    return re.sub(r"(?<=.)\.(txt|vec|bin|ftz)$", "", re.sub(r"(?<=.)\.gz$", "", name))


def _cached(model_id: str, cache_dir: Path) -> Path:
    return cache_dir / "checkpoints" / slug(model_id)


def slug(model_id: str) -> str:
    """A file name for a model id."""
    return re.sub(r"[^\w.-]", "_", model_id.replace("/", "--").replace(os.sep, "--"))
