"""Everything that decides what is in a bundle, and the cache folder that follows from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import service
from models.hashes import FileHashes
from models.sources import Place, readable, slug
from service.bundle import FORMAT, PoolingMode
from service.device_name import Target
from service.errors import StartupError
from service.precision import Precision

COMPILER_REVISION = 9
"""Raised by every change that makes other graphs, tokenizers or bundle files of the same checkpoint."""

DEPTHS = ("", "*/", "*/*/", "*/*/*/")
"""Where files are looked for below a checkpoint's folder: a module may lie two folders deep, its graph in one more."""

_FIRST = ("modules.json", "config.json", "model.safetensors")
"""One of them lies in every checkpoint's folder itself."""

COMPILER = f"embedserve {service.__version__}"

_LONGEST_NAME = 200  # bytes, of the 255 that file systems allow

Route = Literal["native", "onnx", "export"]
Format = Literal["word2vec-text", "word2vec-binary", "glove", "fasttext"]
PoolingChoice = PoolingMode | Literal["splade"]
"""What --pooling takes; the last makes a sparse model of one for masked language modelling."""


@dataclass(frozen=True)
class Options:
    """What the user chooses about a bundle. None: as the checkpoint says."""

    precision: Precision = "fp32"
    target: Target = "cpu"
    pooling: PoolingChoice | None = None
    route: Route | None = None
    format: Format | None = None  # of a file of word vectors
    keep_padding: bool = False  # of graphs for CUDA, also where its kernels do without


def refuse_at_odds(options: Options) -> None:
    """Raises StartupError for what no kernel runs well."""
    if options.precision == "int8" and options.target != "cpu":
        raise StartupError(f"int8 is for CPUs, not for {options.target}", "leave --precision out: that is fp16 there")
    if options.keep_padding and options.target != "cuda":
        raise StartupError(f"--keep-padding is for CUDA: graphs for {options.target} always do", "leave it out")
    if options.precision == "fp16" and options.target == "cpu":
        raise StartupError(
            "CPUs compute in float32, so that fp16 is only slower",
            "leave --precision out, or take --target cuda (for serve: --device cuda)",
        )


@dataclass(frozen=True)
class Recipe:
    """`checkpoint` maps the names of the files a compile may read to their sha256."""

    model_id: str
    options: Options
    checkpoint: dict[str, str]
    golden: str | None  # sha256 of the packaged reference vectors
    compiler: str = COMPILER
    revision: int = COMPILER_REVISION
    bundle_format: int = FORMAT

    @property
    def key(self) -> str:
        """sha256 of all of the above."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def folder(self, cache_dir: Path) -> Path:
        """Where the bundle of this recipe lies, or will lie. A long name is cut: the key alone tells bundles apart."""
        name = slug(self.model_id).encode()[:_LONGEST_NAME].decode("utf-8", "ignore")
        return cache_dir / "bundles" / f"{name}-{self.key[:16]}"


def recipe_of(place: Place, options: Options, hashes: FileHashes) -> Recipe:
    """Raises OSError where a file of the checkpoint cannot be read."""
    golden = place.entry.golden_file if place.entry else None
    return Recipe(
        model_id=place.model_id,
        options=options,
        checkpoint={readable(name): hashes.of(place.folder / name) for name in _files(place)},
        golden=hashes.of(golden) if golden else None,
    )


def _files(place: Place) -> list[str]:
    return [place.file] if place.file else checkpoint_files(place.folder)


def checkpoint_files(folder: Path) -> list[str]:
    """Relative names of all that a compile may read: descriptions, tokenizer, weights and graphs.

    None where the folder is no checkpoint, as one above many of them is not: their weights need not be read for that.
    """
    if not any((folder / name).is_file() for name in _FIRST):
        return []
    return sorted(path.relative_to(folder).as_posix() for path in _read_by_compile(folder))


def _read_by_compile(folder: Path) -> Iterator[Path]:
    for pattern in (
        "*.json",
        "*.safetensors",
        "model.onnx*",
        "*.model",
        "vocab.txt",
        "merges.txt",
        "artifact.metadata",
    ):
        for depth in DEPTHS:
            yield from (path for path in folder.glob(depth + pattern) if path.is_file())
