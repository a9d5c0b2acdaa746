"""A repository on the Hugging Face hub → a folder. The only importer of huggingface_hub."""

from __future__ import annotations

import os
import queue
import shutil
import threading
from pathlib import Path

from models.catalogue import HubSource, Unusable

PROBE_SECONDS = 3.0

# Everything a compile may read. Pickles (*.bin, *.pt) are never asked for.
_PATTERNS = ["*.json", "*.txt", "*.safetensors", "*.model", "artifact.metadata"]
_ONNX_PATTERNS = ["model.onnx*", "onnx/model.onnx*"]


def download(source: HubSource, folder: Path) -> None:
    """Puts the repository's files into the empty `folder`. Raises Unusable.

    They go through the user's own hub cache, so what is there already serves offline too, and an
    interrupted download resumes. The files are linked, not copied, where the file system allows.
    """
    snapshot = _snapshot(source.repository, _PATTERNS)
    if not any(snapshot.glob("*.safetensors")) and not any(snapshot.glob("*/*.safetensors")):
        snapshot = _snapshot(source.repository, [*_PATTERNS, *_ONNX_PATTERNS])
    for path in snapshot.rglob("*"):
        if path.is_file():
            target = folder / path.relative_to(snapshot)
            target.parent.mkdir(parents=True, exist_ok=True)
            _link_or_copy(path, target)


def _snapshot(repository: str, patterns: list[str]) -> Path:
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # read when the library is imported
    import huggingface_hub

    unreachable = _unreachable()
    try:
        return Path(
            huggingface_hub.snapshot_download(
                repository, allow_patterns=patterns, local_files_only=unreachable is not None
            )
        )
    except Exception as error:  # the library's HTTP errors share no base from one version to the next
        raise Unusable(unreachable or _one_line(error)) from error


def _unreachable() -> str | None:
    """Why the hub cannot be asked, or None.

    The library's own requests wait long and repeat themselves; one question with a short limit comes first.
    It runs on a thread of its own because no client bounds the time of a name look-up. Any answer at all,
    whatever its status, means reachable.
    """
    answer: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    threading.Thread(target=lambda: answer.put(_probe()), daemon=True).start()
    try:
        return answer.get(timeout=2 * PROBE_SECONDS)
    except queue.Empty:
        return f"unreachable (no answer in {2 * PROBE_SECONDS:.0f} s)"


def _probe() -> str | None:
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session  # type: ignore[attr-defined]

    if constants.HF_HUB_OFFLINE:
        return "switched off by HF_HUB_OFFLINE, and its cache lacks the files"
    try:
        get_session().head(constants.ENDPOINT, timeout=PROBE_SECONDS)
    except Exception as error:  # noqa: BLE001 - requests, httpx or httpx2, by the library's version
        return f"unreachable ({_one_line(error)})"
    return None


def _one_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _link_or_copy(source: Path, target: Path) -> None:
    """The snapshot's files are symlinks into its store: the link must be to the content."""
    real = source.resolve()
    try:
        os.link(real, target)
    except OSError:
        shutil.copyfile(real, target)
