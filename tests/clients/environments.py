"""Client packages that are too heavy, or too much at odds, for the tests' own environment.

Each set of packages gets a virtual environment (or a node_modules folder) of its own under `.venv-clients/`, made once
and named after what is in it; by uv, which takes a tenth of pip's time. A client is a small script that talks to the
server whose URL it is given and prints one line of JSON; the test that runs it compares what came back with the
recorded vectors.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2] / ".venv-clients"
SCRIPTS = Path(__file__).parent / "scripts"
INSTALL_SECONDS = 900
RUN_SECONDS = 300


@dataclass(frozen=True)
class Python:
    """A virtual environment: pip requirements, with a name for people."""

    name: str
    requirements: tuple[str, ...]

    def interpreter(self) -> Path:
        """Makes the environment if it is not there yet."""
        folder = _folder(self.name, self.requirements)
        with _made_once(folder) as missing:
            if missing:
                uv, where = [sys.executable, "-m", "uv"], pips_own_places()
                run_tool([*uv, "venv", "-q", "--python", sys.executable, str(folder)], where)
                run_tool([*uv, "pip", "install", "-q", "--python", str(folder), *self.requirements], where)
        return folder / "bin" / "python"

    def run(self, script: str, *arguments: str, env: dict[str, str] | None = None) -> Any:
        """The JSON that the last line of `scripts/<script>` says."""
        return _last_line([str(self.interpreter()), str(SCRIPTS / script), *arguments], env)


@dataclass(frozen=True)
class Node:
    """A folder with node_modules: npm packages, with a name for people."""

    name: str
    packages: tuple[str, ...]

    def folder(self) -> Path:
        """Makes the folder if it is not there yet."""
        folder = _folder(self.name, self.packages)
        with _made_once(folder) as missing:
            if missing:
                folder.mkdir(parents=True)
                (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
                run_tool(["npm", "install", "--no-audit", "--no-fund", "--silent", *self.packages], cwd=folder)
        return folder

    def run(self, script: str, *arguments: str, env: dict[str, str] | None = None) -> Any:
        """The JSON that the last line of `scripts/<script>` says. Node looks for packages beside the script."""
        copy = self.folder() / script
        shutil.copy(SCRIPTS / script, copy)
        return _last_line(["node", str(copy), *arguments], env)


@dataclass(frozen=True)
class Debian:
    """A folder with a package of Debian's and what it needs that is not installed, unpacked: nothing is installed."""

    name: str
    programs: str = "usr/sbin"  # the folder of its programs

    def program(self, name: str | None = None) -> Path:
        """The system's own one, or one of such a folder, made if it is not there yet; by default the package's
        namesake."""
        name = name or self.name
        if system := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            return Path(system)
        folder = _folder("debian", (self.name,))
        with _made_once(folder) as missing:
            if missing:
                _unpack(self.name, folder)
        return folder / self.programs / name

    def environment(self) -> dict[str, str]:
        """Where it finds its libraries."""
        return {"LD_LIBRARY_PATH": ":".join(map(str, (self.program().parents[1] / "lib").glob("*-linux-gnu")))}

    def can_be_had(self) -> bool:
        """Whether this is a Debian, or has it."""
        return bool(shutil.which("apt-get") and shutil.which("dpkg")) or Path("/", self.programs, self.name).exists()


def _unpack(package: str, folder: Path) -> None:
    """With apt's own lists of packages, or where they are missing with new ones in the folder. Needs not be root."""
    archives, lists = folder / "archives", folder / "lists"
    for made in (archives, lists):
        (made / "partial").mkdir(parents=True)
    apt = ["apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", f"Dir::Cache::archives={archives}/"]
    download = [*apt, "install", "--no-install-recommends", "--download-only", package]
    own = ["-o", f"Dir::State::Lists={lists}/"]
    if subprocess.run(download, capture_output=True, timeout=INSTALL_SECONDS, check=False).returncode:
        run_tool([*apt, *own, "update"])
        run_tool([*download, *own])
    for archive in archives.glob("*.deb"):
        run_tool(["dpkg", "-x", str(archive), str(folder)])


def have_node() -> bool:
    """Whether npm's clients can run on this machine."""
    return shutil.which("node") is not None and shutil.which("npm") is not None


def _folder(name: str, contents: Sequence[str]) -> Path:
    return ROOT / f"{name}-{hashlib.sha256(' '.join(contents).encode()).hexdigest()[:8]}"


@contextmanager
def made_folder(name: str, contents: Sequence[str]) -> Iterator[tuple[Path, bool]]:
    """A folder named after what is in it, and whether the caller has to make it."""
    folder = _folder(name, contents)
    with _made_once(folder) as missing:
        yield folder, missing


@contextmanager
def _made_once(folder: Path) -> Iterator[bool]:
    """Says whether the folder has to be made; one that was left half made is made anew."""
    ROOT.mkdir(exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = not done.exists()
        if missing and folder.exists():
            shutil.rmtree(folder)
        yield missing
        done.touch()


@cache
def pips_own_places() -> Mapping[str, str]:
    """Where pip looks for packages on this machine, as uv's variables: uv reads no pip.conf."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = dict(line.split("=", 1) for line in listed.stdout.splitlines())
    places: dict[str, str] = {}
    for key, value in found.items():  # variables come last, as they count for more than files
        variable, separator = _OF_PIP.get(key.rpartition(".")[2], ("", ""))
        if variable:
            places[variable] = separator.join(ast.literal_eval(value).split())
    return {"UV_INDEX_STRATEGY": "unsafe-best-match"} | places  # the newest of all indexes, as pip has it


_OF_PIP = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def run_tool(command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Runs it to its end. Raises AssertionError with its last words where it fails."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _last_line(command: Sequence[str], env: dict[str, str] | None) -> Any:
    """Without proxies, as the server is on this machine."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=RUN_SECONDS, env=clean | (env or {}), check=False
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.strip().splitlines()[-1])
