"""Rows → checkpoints by the reference → bundles → a server process each → vectors over HTTP, compared."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.compile import compile_checkpoint
from tests.clients.environments import Python
from tests.e2e.process import Server, Vectors, cosines
from tests.parity.families.exports import compile_exports
from tests.parity.families.rows import TEXTS, Row

REFERENCE = Python("reference", ("torch==2.13.0", "transformers==5.23.0", "sentence-transformers==6.2.0"))
MINIMUM_COSINE = 0.9999
MINIMUM_COSINE_BETWEEN_BATCHES = 0.999999
SCRIPT = Path(__file__).with_name("make_checkpoints.py")


@dataclass(frozen=True)
class Result:
    """Worst cosines over TEXTS: to the reference, and between a text alone and all of them in one request."""

    row: Row
    cosine: float
    batch_cosine: float


def make_checkpoints(rows: Sequence[Row], folder: Path) -> Mapping[str, str]:
    """Writes what `make_checkpoints.py` says into `folder`; the versions that gave it."""
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"rows": [asdict(row) for row in rows], "texts": TEXTS}), "utf-8")
    versions: dict[str, str] = REFERENCE.run(str(SCRIPT), str(plan), str(folder), env={"HF_HUB_OFFLINE": "1"})
    if exports := [row for row in rows if row.route == "export"]:
        compile_exports([str(folder / row.name) for row in exports], folder / "cache")
    return versions


def compile_row(row: Row, folder: Path) -> Path:
    """The bundle of a row whose checkpoint is in `folder`."""
    return compile_checkpoint(
        str(folder / row.name), cache_dir=folder / "cache", say=lambda line: None, route=row.route
    )


def measure(row: Row, server: Server, folder: Path) -> Result:
    """`server` runs the row's bundle; `folder` has the vectors it should give."""
    expected: Vectors = np.load(folder / f"{row.name}.npy")
    together = server.embed(list(TEXTS), model=row.name)
    alone = np.concatenate([server.embed(text, model=row.name) for text in TEXTS])
    assert together.shape == expected.shape, f"{row.name}: {together.shape}, not {expected.shape}"
    found = cosines(alone, expected).min(), cosines(together, expected).min(), cosines(alone, together).min()
    return Result(row, float(min(found[:2])), float(found[2]))


def server_of(bundle: Path, folder: Path) -> Server:
    """A server of one bundle that reads as much of a text as the reference does. The caller stops it."""
    return Server(folder, [str(bundle), "--port", "0", "--long-input", "truncate"]).wait_ready()


def floor(cosine: float) -> str:
    """Six digits, never rounded up."""
    return f"{math.floor(cosine * 1e6) / 1e6:.6f}"
