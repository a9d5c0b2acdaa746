"""Servers whose faults a test chooses while they run."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Golden
from tests.e2e.process import Server
from tests.models import late
from tests.models.scores import IDENTITY, write_cross_encoder
from tests.models.sparse import write_splade
from tests.models.tiny import Tiny

MAKE: dict[str, Callable[[Path], Path]] = {
    "embedding": lambda folder: Tiny().write(folder),
    "sparse": write_splade,
    "tokens": lambda folder: late.write("colbert", folder),
    "score": lambda folder: write_cross_encoder(folder, 1, **IDENTITY),
}
"""A tiny checkpoint of each task."""


class Faulty(Server):
    """A server that fails as it is told: see `launcher`."""

    def __init__(self, folder: Path, arguments: list[str]) -> None:
        self._file = folder / "fault.json"
        program = [sys.executable, "-m", "tests.faults.launcher", str(self._file)]
        super().__init__(folder, arguments, program=program)

    def fault(self, kind: str | None = None, **more: Any) -> None:
        """From now on, until it is mended."""
        written = self._file.with_suffix(".new")
        written.write_text(json.dumps(({"fault": kind} if kind else {}) | more))
        written.replace(self._file)

    def mend(self) -> None:
        """From now on nothing is wrong."""
        self._file.unlink(missing_ok=True)

    def token(self, word: str) -> int:
        """The model's id for a word that is one token."""
        reply = self.post("/tokenize", {"inputs": word, "add_special_tokens": False})
        ((one,),) = reply.json()
        return int(one["id"])


StartFaulty = Callable[..., Faulty]


@pytest.fixture(scope="module")
def launch_faulty(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartFaulty]:
    """launch_faulty(*flags, model=...) → Faulty, stopped when the module ends."""
    started: list[Faulty] = []

    def start(*flags: str, model: Path | None = bundle, port: int = 0) -> Faulty:
        arguments = [*([str(model)] if model else []), "--port", str(port), *flags]
        started.append(Faulty(tmp_path_factory.mktemp("faulty"), arguments))
        started[-1].wait_ready()
        return started[-1]

    yield start
    for server in started:
        server.mend()
        server.stop()


@pytest.fixture
def golden(golden: Golden) -> Golden:
    """Fewer than a client has connections."""
    few = slice(24)
    return Golden(golden.texts[few], golden.vectors[few], golden.tokens[few])
