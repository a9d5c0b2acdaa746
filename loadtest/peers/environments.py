"""Virtual environments for servers whose packages do not go together, under `.venv-peers/`, each made once."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2] / ".venv-peers"
_INSTALL_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Environment:
    """pip requirements, with a name for people; `shown` are the packages whose versions a comparison has to name."""

    name: str
    requirements: tuple[str, ...]
    shown: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Named after what is in it: other requirements, another environment."""
        return ROOT / f"{self.name}-{hashlib.sha256(' '.join(self.requirements).encode()).hexdigest()[:8]}"

    def program(self, name: str) -> str:
        """The path of one of its commands."""
        return str(self.folder / "bin" / name)

    def make(self, say: Callable[[str], None]) -> None:
        """Installs it if it is not there yet. Raises RuntimeError with pip's last words."""
        done = self.folder / ".installed"
        if done.exists():
            return
        say(f"installing {self.name} (once; torch is large)")
        run([sys.executable, "-m", "venv", "--clear", str(self.folder)], _INSTALL_SECONDS)
        run([self.program("python"), "-m", "pip", "install", "--quiet", *self.requirements], _INSTALL_SECONDS)
        done.touch()

    def versions(self) -> Mapping[str, str]:
        """Of the packages that are `shown`."""
        asked = "import json, sys; from importlib.metadata import version as v; "
        asked += "print(json.dumps({name: v(name) for name in sys.argv[1:]}))"
        found: dict[str, str] = json.loads(run([self.program("python"), "-c", asked, *self.shown], 60))
        return found


def run(command: list[str], seconds: float) -> str:
    """What it prints. Raises RuntimeError with the last of its words where it fails, or where it takes longer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{Path(command[0]).name} did not end within {seconds:.0f} s") from None
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{(done.stdout + done.stderr).strip()[-2000:]}")
    return done.stdout
