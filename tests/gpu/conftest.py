"""The device, the real model compiled for it, and servers there.

EMBEDSERVE_TEST_DEVICE names another device than `cuda`: with `cpu` the same tests run where there is no GPU, but for
those that make no sense there, so that they can be written on any machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from models.compile import compile_checkpoint
from service.device_name import DeviceName, parse
from service.precision import USUAL_PRECISION, Precision
from service.runtime.preflight import obstacle
from service.settings import load_settings
from tests.conftest import StartServer
from tests.e2e.process import MODEL, Server

Compiled = Callable[[Precision], Path]


@pytest.fixture(scope="session")
def device() -> DeviceName:
    """Skips every test where it cannot be had."""
    wished = parse(os.environ.get("EMBEDSERVE_TEST_DEVICE", "cuda"))
    assert wished is not None, "EMBEDSERVE_TEST_DEVICE names one device"
    if missing := obstacle(wished):
        pytest.skip(f"the device {wished} cannot be had: {missing.reason}")
    return wished


@pytest.fixture(scope="session")
def gpu(device: DeviceName) -> DeviceName:
    """For what a CPU cannot stand in for."""
    if device.kind == "cpu":
        pytest.skip("of GPUs only")
    return device


@pytest.fixture(scope="session")
def compiled(device: DeviceName, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """compiled(precision) → a bundle for the device that nobody has tuned."""

    @cache
    def compile_once(precision: Precision) -> Path:
        if device.kind == "cpu" and precision == "fp16":
            pytest.skip("CPUs have no float16")
        return compile_checkpoint(
            MODEL,
            output=tmp_path_factory.mktemp(precision) / MODEL,
            cache_dir=load_settings().cache_dir,
            precision=precision,
            target=device.kind,
            say=lambda line: print(line, file=sys.stderr),
        )

    return compile_once


@pytest.fixture(scope="session")
def bundle(device: DeviceName, compiled: Compiled) -> Path:
    """In the precision that is usual there."""
    return compiled(USUAL_PRECISION[device.kind])


@pytest.fixture(scope="session")
def server(device: DeviceName, bundle: Path, launch: StartServer) -> Server:
    """One with the default settings, shared by every test that leaves it as it was."""
    return launch("--device", str(device), model=bundle)


@pytest.fixture
def serve(device: DeviceName, bundle: Path, start_server: StartServer) -> StartServer:
    """serve(*flags, model=…) → such a server of the test's own."""

    def start(*flags: str, model: Path = bundle, **options: Any) -> Server:
        return start_server("--device", str(device), *flags, model=model, **options)

    return start
