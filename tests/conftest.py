"""Fixtures of the tests that run the real server on the real model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from numpy.typing import NDArray

from models.compile import compile_checkpoint, find_cached
from service.settings import load_settings
from tests.e2e.process import MODEL, Server, Vectors

# How long an example takes is no property of the code, on machines that others share.
hypothesis.settings.register_profile("embedserve", deadline=None)
hypothesis.settings.load_profile("embedserve")

PARITY = Path(__file__).parent / "parity"

StartServer = Callable[..., Server]
MakeBundle = Callable[..., Path]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take minutes begin first, so that no worker is left alone with one in the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@dataclass(frozen=True)
class Golden:
    """What sentence-transformers gave: `vectors` (texts, dimensions), `tokens` (texts,) with special tokens."""

    texts: list[str]
    vectors: Vectors
    tokens: NDArray[np.int64]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """The recorded parity vectors."""
    texts = json.loads((PARITY / "texts.json").read_text("utf-8"))
    recorded = np.load(PARITY / f"{MODEL}.npz")
    return Golden(texts, recorded["vectors"], recorded["tokens"])


@pytest.fixture(scope="session")
def bundle() -> Path:
    """The real model's bundle, from the cache or compiled into it."""
    cache_dir = load_settings().cache_dir
    found = find_cached(MODEL, cache_dir=cache_dir)
    return found or compile_checkpoint(MODEL, cache_dir=cache_dir, say=lambda line: print(line, file=sys.stderr))


@pytest.fixture(scope="session")
def make_bundle(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeBundle:
    """The real bundle with other words in its bundle.json: make_bundle(prompts={...})."""

    def make(**changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("bundle") / MODEL
        folder.mkdir()
        for file in bundle.iterdir():
            link(file, folder / file.name)
        described = json.loads((bundle / "bundle.json").read_text("utf-8"))
        (folder / "bundle.json").unlink()
        (folder / "bundle.json").write_text(json.dumps(described | changes), "utf-8")
        return folder

    return make


def link(source: Path | str, target: Path | str) -> None:
    """A second name of a file that nobody writes to; a copy where the names are on two file systems."""
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy(source, target)


@pytest.fixture(scope="session")
def launch(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """launch(*flags, model=..., env=..., port="0", ready=True) → Server, stopped when the session ends.

    `port` None leaves the flag out, and `no_model` the model.
    """
    started: list[Server] = []

    def start(
        *flags: str,
        model: Path | None = None,
        env: dict[str, str] | None = None,
        port: str | None = "0",
        ready: bool = True,
        no_model: bool = False,
    ) -> Server:
        arguments = [*([] if no_model else [str(model or bundle)]), *([] if port is None else ["--port", port]), *flags]
        server = Server(tmp_path_factory.mktemp("server"), arguments, env)
        started.append(server)
        return server.wait_ready() if ready else server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def start_server(launch: StartServer) -> Iterator[StartServer]:
    """As `launch`, stopped when the test ends."""
    mine: list[Server] = []

    def start(*flags: str, **options: Any) -> Server:
        mine.append(launch(*flags, **options))
        return mine[-1]

    yield start
    for server in mine:
        server.stop()


@pytest.fixture(scope="session")
def server(launch: StartServer) -> Server:
    """One server with the default settings, shared by every test that leaves it as it was."""
    return launch()
