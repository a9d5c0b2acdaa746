"""Models that are opened before the event loop runs or asked for while they start, and what a folder of them holds."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import shutil
import weakref
from pathlib import Path
from typing import Any

import pytest

from service.errors import BundleError, ModelNotFound, Unavailable
from service.opening import Parts, open_bundle
from service.registry import Registry
from service.settings import Settings


def test_a_model_that_was_begun_is_let_go_of_when_it_is_unloaded(bundle: Path) -> None:
    async def load_and_unload() -> None:
        registry = Registry(Settings(model=str(bundle), served_model_name="mine"))
        registry.begin([bundle])
        (model,) = await registry.start([bundle])
        files = weakref.ref(model.files)
        del model
        await registry.unload("mine")
        await registry.close()
        gc.collect()
        assert files() is None

    asyncio.run(load_and_unload())


def test_what_opening_raised_is_raised_by_start(tmp_path: Path) -> None:
    """`begin` itself never fails: what is said first is what was found first before there was any hurry."""
    (tmp_path / "bundle.json").write_text("{}")

    async def load() -> None:
        registry = Registry(Settings(model=str(tmp_path)))
        registry.begin([tmp_path])
        await registry.start([tmp_path])

    with pytest.raises(BundleError, match=r"bundle\.json"):
        asyncio.run(load())


def test_an_unload_during_a_start_is_of_what_was_started(bundle: Path) -> None:
    async def unload_meanwhile() -> None:
        registry = Registry(Settings(model=str(bundle), served_model_name="mine"))
        starting = asyncio.create_task(registry.start([bundle]))
        await asyncio.sleep(0)
        assert registry.is_loading
        await registry.unload("mine")
        assert not registry.is_loading
        await starting
        with pytest.raises(ModelNotFound):
            registry.get("mine")
        await registry.close()

    asyncio.run(unload_meanwhile())


def test_a_load_during_a_start_begins_behind_it(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = []

    def told(*args: Any, **named: Any) -> Parts:
        steps.append("begins")
        try:
            return open_bundle(*args, **named)
        finally:
            steps.append("ends")

    async def load_meanwhile() -> None:
        registry = Registry(Settings(model=str(bundle), served_model_name="mine"))
        starting = asyncio.create_task(registry.start([bundle]))
        await asyncio.sleep(0)
        await asyncio.gather(starting, registry.load("mine"))
        assert registry.get("mine") is not starting.result()[0]
        await registry.close()

    monkeypatch.setattr("service.registry.open_bundle", told)
    asyncio.run(load_meanwhile())
    assert steps == ["begins", "ends", "begins", "ends"]


def test_whoever_waits_for_a_start_that_fails_is_told_so(bundle: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(bundle, tmp_path / "broken")
    (broken / "tokenizer.json").write_text("")

    async def manage_meanwhile() -> None:
        registry = Registry(Settings(model=str(broken), served_model_name="mine"))
        starting = asyncio.create_task(registry.start([broken]))
        await asyncio.sleep(0)
        waiting = [registry.load("mine"), registry.unload("mine")]
        failures = await asyncio.gather(starting, *waiting, return_exceptions=True)
        assert [type(one) for one in failures] == [BundleError, Unavailable, Unavailable]

    asyncio.run(manage_meanwhile())


def test_what_nobody_may_look_into_is_left_out_of_the_folders_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No mode stops root, who may run tests: so it is thrown."""
    for name in ("lost+found", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "bundle.json").write_text("{}")
    is_file = Path.is_file

    def guarded(path: Path) -> bool:
        if "lost+found" in path.parts:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", guarded)
    listed = asyncio.run(Registry(Settings(model_dir=tmp_path)).listing())
    assert [(one.name, one.state) for one in listed] == [("mine", "UNAVAILABLE")]


def test_a_folder_that_is_removed_holds_no_models(tmp_path: Path) -> None:
    async def look(registry: Registry) -> None:
        assert await registry.listing() == []
        with pytest.raises(ModelNotFound):
            await registry.load("mine")

    asyncio.run(look(Registry(Settings(model_dir=tmp_path / "gone"))))
