"""A model that is opened before the event loop runs, and what is left of it."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import pytest

from service.errors import BundleError
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
