"""The real checkpoint, fetched once into the user's own cache, and what the tests of the compiler share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from models.compile import compile_checkpoint

MINILM = "all-MiniLM-L6-v2"

Compile = Callable[..., Path]


def tell(line: str) -> None:
    print(line, file=sys.stderr)


@pytest.fixture(scope="session")
def user_cache() -> Path:
    return Path(os.environ.get("EMBEDSERVE_CACHE_DIR") or Path.home() / ".cache" / "embedserve").resolve()


@pytest.fixture(scope="session")
def minilm(user_cache: Path) -> Path:
    """The bundle of the catalogue's model, through the real fetch and compile."""
    return compile_checkpoint(MINILM, cache_dir=user_cache, say=tell)


@pytest.fixture
def said() -> list[str]:
    """Progress lines."""
    return []


@pytest.fixture
def compiled(tmp_path: Path, said: list[str]) -> Compile:
    """compile_checkpoint into a cache of this test's own."""

    def run(source: Path | str, **options: object) -> Path:
        return compile_checkpoint(str(source), cache_dir=tmp_path / "cache", say=said.append, **options)  # type: ignore[arg-type]

    return run
