"""An upgrade and a rollback: servers of two versions, with one cache and with bundles of each other's.

The newer version is this one with another number, another revision of the compiler, and a field in bundle.json.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import service
from deploy.release import PACKAGE, ROOT, with_package_version
from tests.e2e.process import Server, clean_environment, openai_vectors
from tests.models.tiny import Tiny

pytestmark = pytest.mark.heavy

NEWER = "7.0.0"


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), "utf-8")


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the newer version's packages lie."""
    folder = tmp_path_factory.mktemp("newer")
    for name in ("service", "models"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    package = folder / PACKAGE
    package.write_text(with_package_version(package.read_text("utf-8"), NEWER), "utf-8")
    replaced(folder / "models" / "recipe.py", "COMPILER_REVISION = ", "COMPILER_REVISION = 1000 + ")
    replaced(
        folder / "service" / "bundle.py",
        "    provenance: Provenance\n",
        "    later: bool = True\n    provenance: Provenance\n",
    )
    return folder


class Versions:
    """Servers of both, all stopped in the end."""

    def __init__(self, newer: Path, folder: Path) -> None:
        self._newer, self._folder = newer, folder
        self._started: list[Server] = []

    def run(self, model: Path, cache: Path, *, new: bool) -> Server:
        """Not ready yet."""
        where = {"PYTHONPATH": str(self._newer)} if new else {"PYTHONPATH": str(ROOT)}
        env = clean_environment({**where, "EMBEDSERVE_CACHE_DIR": str(cache)})
        own = [str(model), "--port", "0", "--log-format", "text"]
        program = [sys.executable, "-P", "-m", "service.cli"]
        self._started.append(Server(self._folder / str(len(self._started)), own, env, program))
        return self._started[-1]

    def compiles(self, model: Path, cache: Path, *, new: bool) -> tuple[bool, list[float]]:
        """Whether it had to compile the model before, and the vector of a text."""
        server = self.run(model, cache, new=new).wait_ready()
        version = server.http.get("/openapi.json").json()["info"]["version"]
        assert version == (NEWER if new else service.__version__)
        reply = server.post("/v1/embeddings", {"input": "the river and the mill"})
        server.stop()
        return "embedserve: compiled" in server.stderr(), openai_vectors(reply)[0].tolist()

    def stop(self) -> None:
        for server in self._started:
            server.stop()


@pytest.fixture
def versions(newer: Path, tmp_path: Path) -> Iterator[Versions]:
    made = Versions(newer, tmp_path / "servers")
    yield made
    made.stop()


def test_each_version_has_its_own_bundle_in_a_shared_cache_and_a_rollback_finds_the_old_one(
    versions: Versions, tmp_path: Path
) -> None:
    checkpoint, cache = Tiny().write(tmp_path / "tiny"), tmp_path / "cache"
    runs = [versions.compiles(checkpoint, cache, new=new) for new in (False, True, True, False)]
    assert [compiled for compiled, _ in runs] == [True, True, False, False]
    assert all(vector == runs[0][1] for _, vector in runs)
    assert len(list((cache / "bundles").glob("*/bundle.json"))) == 2


def test_a_newer_server_runs_an_older_bundle_and_an_older_one_says_who_made_a_newer(
    versions: Versions, tmp_path: Path
) -> None:
    checkpoint = Tiny().write(tmp_path / "tiny")
    for new, cache in ((False, tmp_path / "old"), (True, tmp_path / "new")):
        versions.compiles(checkpoint, cache, new=new)
    [older] = (tmp_path / "old" / "bundles").glob("*/")
    [later] = (tmp_path / "new" / "bundles").glob("*/")
    compiled, _ = versions.compiles(older, tmp_path / "none", new=True)
    assert not compiled
    refused = versions.run(later, tmp_path / "none", new=False)
    assert refused.wait() == 1
    assert "later: Extra inputs are not permitted" in refused.stderr()
    assert f"(made by embedserve {NEWER}, and this is embedserve {service.__version__})" in refused.stderr()
    assert "compile it again" in refused.stderr()
