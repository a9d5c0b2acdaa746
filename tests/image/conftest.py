"""The images, built once for all tests, and containers that end with their test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.image.base import NoStandIn, stand_in
from deploy.image.build import BAKED_TAG, TAG, build
from tests.e2e.process import MODEL
from tests.image.containers import CONFINED, LIMITS, Container, podman

VERSION = "1.2.3-test"
StartContainer = Callable[..., Container]


@pytest.fixture(scope="session")
def base() -> str:
    """The name of the stand-in base; skips where it cannot be made, or where the kernel lets nobody run containers."""
    missing = [name for name in ("buildah", "podman", "runc", "debootstrap") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"images need root, and {', '.join(missing) or 'nothing else'}: make image-test installs them")
    try:
        name = stand_in()
    except NoStandIn as error:
        pytest.skip(str(error))
    tried = podman("run", "--rm", "--network", "none", *LIMITS, *CONFINED, name, "true", check=False)
    if tried.returncode and ("not permitted" in tried.stderr or "ermission denied" in tried.stderr):
        pytest.skip(f"the kernel forbids containers here: {tried.stderr.strip()}")
    assert tried.returncode == 0, tried.stderr
    return name


@pytest.fixture(scope="session")
def image(base: str) -> str:
    """The default target, without a model."""
    build(TAG, labels={"org.opencontainers.image.version": VERSION})
    return TAG


@pytest.fixture(scope="session")
def baked(base: str) -> str:
    """With all-MiniLM-L6-v2 in it."""
    build(BAKED_TAG, arguments={"MODEL": MODEL})
    return BAKED_TAG


@pytest.fixture
def start() -> Iterator[StartContainer]:
    """start(image, *words, options=…, env=…) → Container, removed when the test ends."""
    started: list[Container] = []

    def make(*words: str, **options: Any) -> Container:
        started.append(Container(*words, **options))
        return started[-1]

    yield make
    for one in started:
        one.remove()
