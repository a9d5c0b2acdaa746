"""A server's first half second: its model is opened while what speaks HTTP is still imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from service.logs import configure, finish
from service.registry import Find, Registry
from service.settings import Settings

# Seconds after which a thread that cuts up a long document lets the event loop go on; Python's own 5 ms are a
# wait at each of the several steps of every short request, and of those of a model that is opened beside imports.
_SWITCH_INTERVAL = 0.000_5


def launch(settings: Settings, bundles: Sequence[Path], find: Find) -> None:
    """Serves until SIGTERM or SIGINT. `bundles` are those of the models that are loaded at the start, `find` as in
    Registry. Raises StartupError, as `server.serve`; then the process ends when the bundle is open, or cannot be."""
    configure(settings.log_level, settings.log_format)
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        registry = Registry(settings, find)
        registry.begin(bundles)
        # Only now: uvicorn, FastAPI and the dialects are half of the server's imports.
        from service.server import serve

        serve(settings, bundles, registry)
    finally:
        finish()
