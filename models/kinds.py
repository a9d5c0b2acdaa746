"""Which kind of model a checkpoint is, and its reader."""

from __future__ import annotations

from pathlib import Path

from models import splade
from models.checkpoint import Checkpoint, read_checkpoint
from models.cross_encoder import find_cross_encoder
from models.recipe import PoolingChoice
from service.bundle import is_bundle


def read(root: Path, pooling: PoolingChoice | None = None) -> Checkpoint:
    """`pooling` is for folders that do not name it. Raises CheckpointError for what is missing, malformed or not
    understood."""
    if not is_bundle(root) and (pooling == "splade" or splade.is_splade(root)):
        return splade.read_splade(root, pooling)
    assert pooling != "splade"
    if pooling is None and not is_bundle(root) and (found := find_cross_encoder(root)) is not None:
        return found
    return read_checkpoint(root, pooling)
