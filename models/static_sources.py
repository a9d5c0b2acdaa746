"""Whether a checkpoint is one of static embeddings, and of which kind: a file of word vectors, or a folder."""

from __future__ import annotations

from pathlib import Path

from models import static_folder, word_files
from models.recipe import Options
from models.sources import Place, Say
from models.static import Static
from service.errors import CheckpointError, TargetUnsupported


def find_static(place: Place, options: Options) -> Path | None:
    """The file of word vectors, or the folder of the rows; None for a checkpoint of another kind.

    Raises CheckpointError.
    """
    if place.file is not None:
        _refuse_options(options)
        return place.folder / place.file
    if options.format is not None:
        raise CheckpointError(f"--format {options.format} is for files of word vectors", "leave --format out")
    found = static_folder.find(place.folder)
    if found is not None:
        _refuse_options(options)
    return found


def write_static(folder: Path, place: Place, found: Path, options: Options, say: Say) -> Static:
    """Its rows, and words or tokenizer, written into `folder`; `found` is what `find_static` gave.

    Raises CheckpointError.
    """
    if place.file is not None:
        return word_files.write(found, options.format, folder, say)
    return static_folder.write(place.folder, found, folder, say)


def _refuse_options(options: Options) -> None:
    """Before anything large is read."""
    if options.target != "cpu":
        raise TargetUnsupported(
            f"static embeddings look words up and compute nothing that {options.target} could hasten",
            "take --target cpu (for serve: --device cpu)",
        )
    if options.precision != "fp32":
        raise CheckpointError(
            f"static embeddings are looked up: there is no matrix to multiply in {options.precision}",
            "leave --precision out",
        )
    if options.pooling not in (None, "mean") or options.route not in (None, "native"):
        raise CheckpointError("static embeddings are averaged, in no other way", "leave --pooling and --route out")
