"""Models that are opened before the event loop runs or asked for while they start, and what a folder of them holds."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import weakref
from pathlib import Path

import pytest

from service.errors import BundleError, ModelNotFound
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
