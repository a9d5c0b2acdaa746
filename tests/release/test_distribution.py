"""The sdist and the wheel that is built from it: complete, the same every time, and enough to serve."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

import service
from tests.clients.environments import Python, pips_own_places
from tests.conftest import Golden
from tests.e2e.process import Server, clean_environment

pytestmark = pytest.mark.heavy

ROOT = Path(__file__).parents[2]
TOOLS = Python("dist", ("build==1.6.1", "twine==7.0.0", "hatchling==1.33.0"))
LOCK = ROOT / "deploy" / "requirements" / "server-cpu.txt"
NAME = f"embedserve-{service.__version__}"
UV = [sys.executable, "-m", "uv"]


class Built(NamedTuple):
    """What `make dist` makes."""

    sdist: Path
    wheel: Path


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """What it prints; it must succeed."""
    env = clean_environment(dict(pips_own_places()))
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def build(source: Path, folder: Path) -> Built:
    """An sdist of `source`, and a wheel of that sdist."""
    run(TOOLS.interpreter(), "-m", "build", "--no-isolation", "--outdir", folder, source)
    return Built(folder / f"{NAME}.tar.gz", folder / f"{NAME}-py3-none-any.whl")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build(ROOT, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def unpacked(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    with tarfile.open(built.sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / NAME


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that was empty: the lock's packages, and the wheel without any others."""
    folder = tmp_path_factory.mktemp("empty") / "venv"
    run(*UV, "venv", "-q", "--python", sys.executable, folder)
    install: list[str | Path] = [*UV, "pip", "install", "-q", "--python", folder]
    run(*install, "--no-deps", "--verify-hashes", "-r", LOCK)
    run(*install, "--no-deps", built.wheel)
    return folder / "bin"


def test_twine_finds_nothing_wrong(built: Built) -> None:
    found = run(TOOLS.interpreter().with_name("twine"), "check", "--strict", *built)
    assert found.count("PASSED") == 2


def test_the_sdist_holds_what_git_does_and_nothing_else(unpacked: Path) -> None:
    try:
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).split()
    except (FileNotFoundError, AssertionError):
        pytest.skip("this is no clone: what belongs to the project is not known")
    found = {str(path.relative_to(unpacked)) for path in unpacked.rglob("*") if not path.is_dir()}
    assert found == {name for name in listed if (ROOT / name).exists()} | {"PKG-INFO"}


def test_the_wheel_holds_the_packages_their_data_and_their_types(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"service", "models", f"{NAME}.dist-info"}
    assert {"service/py.typed", "models/py.typed", "service/data/cl100k_base.zlib", "models/catalogue.toml"} <= names
    assert {f"{NAME}.dist-info/licenses/{name}" for name in ("LICENSE", "NOTICE")} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_both_are_the_same_when_built_again_from_the_sdist(built: Built, unpacked: Path, tmp_path: Path) -> None:
    again = build(unpacked, tmp_path)
    assert again.wheel.read_bytes() == built.wheel.read_bytes()
    with tarfile.open(again.sdist) as new, tarfile.open(built.sdist) as old:
        assert set(new.getnames()) == set(old.getnames())


def test_the_sdists_tests_run_in_it(unpacked: Path) -> None:
    some = ["tests/service/test_packing.py", "tests/service/test_settings.py", "tests/release/test_release.py"]
    found = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *some, cwd=unpacked)
    assert " passed" in found


def test_nothing_is_missing_or_at_odds(installed: Path) -> None:
    run(*UV, "pip", "check", "-q", "--python", installed / "python")
    assert run(installed / "embedserve", "--version", cwd=installed) == f"embedserve {service.__version__}\n"


def test_the_wheel_and_the_lock_are_all_that_a_server_needs(
    installed: Path, bundle: Path, golden: Golden, tmp_path: Path
) -> None:
    server = Server(tmp_path, [str(bundle), "--port", "0"], program=[str(installed / "embedserve")])
    try:
        server.wait_ready()
        found = server.embed(golden.texts[:2])
        assert abs(found - golden.vectors[:2]).max() <= 1e-4
    finally:
        server.stop()
    assert server.process.returncode == 0
