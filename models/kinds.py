"""Which kind of model a checkpoint is, and its reader."""

from __future__ import annotations

from pathlib import Path

from models import late_interaction, splade
from models.checkpoint import Checkpoint, read_checkpoint
from models.cross_encoder import find_cross_encoder
from models.recipe import PoolingChoice
from service.bundle import is_bundle
from service.errors import CheckpointError


def read(root: Path, pooling: PoolingChoice | None = None) -> Checkpoint:
    """`pooling` is for folders that do not name it. Raises CheckpointError for what is missing, malformed or not
    understood."""
    if is_bundle(root):
        raise CheckpointError(f"{root} is a bundle already", "serve it as it is")
    _refuse_adapters(root)
    found = _read(root, pooling)
    _refuse_adapters(found.folder)
    return found


def _refuse_adapters(folder: Path) -> None:
    """transformers adds what they hold to the weights beside them."""
    if (folder / "adapter_config.json").is_file():
        raise CheckpointError(
            f"{folder} holds an adapter (adapter_config.json), not a model",
            "merge it into its base model: PeftModel.merge_and_unload().save_pretrained(FOLDER)",
        )


def _read(root: Path, pooling: PoolingChoice | None) -> Checkpoint:
    if late_interaction.is_late_interaction(root):
        if pooling is not None:
            raise CheckpointError(
                f"--pooling {pooling} contradicts {root}, whose vectors of tokens are not pooled", "leave it out"
            )
        return late_interaction.read_late_interaction(root)
    if pooling == "splade" or splade.is_splade(root):
        return splade.read_splade(root, pooling)
    if pooling is None and (found := find_cross_encoder(root)) is not None:
        return found
    return read_checkpoint(root, pooling)
