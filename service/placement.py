"""A bundle and a wish → the device it runs on, and how sessions are opened there. What every command agrees on."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from service.bundle import Bundle
from service.device_name import DeviceName
from service.logs import event
from service.packing import LOOKAHEAD
from service.runtime.preflight import both_wheels
from service.runtime.providers import Execution, Load, execution

_ENGINES = "tensorrt"  # the folder beside a bundle's files; an engine is good for one kind of GPU only, and named so


def execution_on(
    device: DeviceName, folder: Path, bundle: Bundle, *, max_batch_tokens: int, memory_limit: int | None = None
) -> Execution:
    """For sessions of the bundle in `folder`, with batches of so many tokens."""
    return execution(
        device,
        Load(
            inputs=bundle.inputs,
            precision=bundle.precision,
            max_seq_length=bundle.max_seq_length,
            max_batch_tokens=max_batch_tokens,
            max_rows=min(LOOKAHEAD, max_batch_tokens),
            memory_limit=memory_limit,
            engines=_engines(folder) if device.kind == "tensorrt" else None,
        ),
    )


def warn_of_two_wheels() -> None:
    """Nothing may be wrong yet; but what is loaded is a mixture."""
    if found := both_wheels():
        event(logging.WARNING, found.reason, remedy=found.remedy)


def _engines(folder: Path) -> Path | None:
    """Building an engine takes minutes, and is done at every start where it cannot be kept."""
    if os.access(folder, os.W_OK):
        engines = folder / _ENGINES
        engines.mkdir(exist_ok=True)
        return engines
    remedy = "make the bundle's folder writable once"
    event(logging.WARNING, f"TensorRT's engine is not kept: {folder} cannot be written", remedy=remedy)
    return None
