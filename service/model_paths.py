"""What `model` means in a settings file: a path from the file's own folder, wherever the command is run from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def from_file(told: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A settings file's keys, each `model` that exists in the file's `folder` as a whole path.

    Others stay as they are: a path from the working directory, a catalogue name or a hub id. Values of a wrong type
    stay as well, for whoever checks them.
    """
    found = {**told, **_resolved(told, folder)}
    if isinstance(models := told.get("models"), list):
        found["models"] = [{**one, **_resolved(one, folder)} if isinstance(one, dict) else one for one in models]
    return found


def _resolved(table: Mapping[str, Any], folder: Path) -> dict[str, str]:
    model = table.get("model")
    if not isinstance(model, str) or not model:
        return {}
    path = os.path.normpath(folder / os.path.expanduser(model))  # which an absolute path is already
    return {"model": path} if os.path.exists(path) else {}
