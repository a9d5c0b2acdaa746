"""One tiny model of every kind, compiled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from models.compile import compile_checkpoint
from tests.models import late
from tests.models.scores import IDENTITY, write_cross_encoder
from tests.models.sparse import write_splade
from tests.models.tiny import Tiny, dense_config

_WRITERS: dict[str, Callable[[Path], Path]] = {
    "reranker": lambda folder: write_cross_encoder(folder, 1, **IDENTITY),
    "narrow": lambda folder: Tiny(dense=dense_config("activation.Tanh", 20)).write(folder),
    "wide": lambda folder: Tiny().write(folder),
    "sparse": write_splade,
    "tokens": lambda folder: late.write("colbert", folder),
    "classifier": lambda folder: write_cross_encoder(folder, 3, **IDENTITY),
}
NAMES = tuple(_WRITERS)


def bundles_of(names: Sequence[str], root: Path) -> dict[str, Path]:
    """The bundles of those of NAMES, in folders of `root`."""
    return {
        name: compile_checkpoint(
            str(_WRITERS[name](root / f"source-{name}")), cache_dir=root, output=root / name, say=print
        )
        for name in names
    }


def listed(bundles: dict[str, Path]) -> str:
    """The tables of a file of settings, each model under its name here."""
    return "\n".join(f'[[models]]\nmodel = "{bundles[name]}"\nname = "{name}"\n' for name in bundles)
