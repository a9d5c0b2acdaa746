"""A checkpoint → its bundle, built once and kept under a name that follows from everything it was made of."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.hashes import FileHashes
from models.recipe import COMPILER, Format, Options, PoolingChoice, Recipe, Route, recipe_of, refuse_at_odds
from models.sources import Place, Say, fetch, locate, memo, readable
from models.staging import staged
from service.bundle import (
    BUNDLE_JSON,
    FORMAT,
    GOLDEN_JSON,
    TOKENIZER_JSON,
    Bundle,
    Golden,
    Provenance,
    is_bundle,
    sha256_of,
)
from service.device_name import Target
from service.errors import BundleError, CheckpointError, StartupError
from service.precision import Precision

if TYPE_CHECKING:
    from models.checkpoint import Checkpoint
    from models.graph import Graph
    from models.static import Static
    from models.verify import CheckReport

Reference = Callable[[Path, Bundle], Golden]
"""A bundle's folder and description → the vectors it should give."""


def find_cached(
    source: str,
    *,
    cache_dir: Path,
    precision: Precision = "fp32",
    target: Target = "cpu",
    pooling: PoolingChoice | None = None,
    route: Route | None = None,
    format: Format | None = None,
    keep_padding: bool = False,
) -> Path | None:
    """The bundle that `compile_checkpoint` would return, if it is here already. Quick; imports nothing heavy."""
    place = locate(source, cache_dir)
    hashes = memo(cache_dir)
    if not place.folder.is_dir() or place.mismatch(place.folder, hashes) is not None:
        return None
    options = Options(precision, target, pooling, route, format, keep_padding)
    folder = recipe_of(place, options, hashes).folder(cache_dir)
    hashes.save()
    return folder if is_bundle(folder) else None


def compile_checkpoint(
    source: str,
    *,
    cache_dir: Path,
    say: Say,
    output: Path | None = None,
    precision: Precision = "fp32",
    target: Target = "cpu",
    pooling: PoolingChoice | None = None,
    route: Route | None = None,
    format: Format | None = None,
    keep_padding: bool = False,
) -> Path:
    """The bundle's folder: `output`, or a place in the cache, where it is found again by its recipe.

    Raises SourceError, CheckpointError, or StartupError where the result cannot be written.
    """
    options = Options(precision, target, pooling, route, format, keep_padding)
    refuse_at_odds(options)
    if output is not None:
        _refuse_to_overwrite(output)
    fetch(source, cache_dir, say)
    place = locate(source, cache_dir)
    hashes = memo(cache_dir)
    recipe = _recipe(place, options, hashes)
    hashes.save()
    final = output or recipe.folder(cache_dir)
    if output is None and is_bundle(final):
        say(f"already compiled: {final}")
        return final
    checkpoint = _read(place, options)  # first: what is no checkpoint needs no place that can be written
    # In the cache only a broken bundle can stand in the way; one that another process finishes meanwhile is as good.
    with staged(final, replace=output is not None or final.exists()) as folder:
        _write_bundle(folder, source, place, recipe, checkpoint, say)
    say(f"compiled {final}")
    return final


def _refuse_to_overwrite(output: Path) -> None:
    if os.path.ismount(output):
        raise StartupError(f"{output} is a mount point, which no folder can replace", "name a folder in it")
    if output.exists() and not is_bundle(output) and not (output.is_dir() and not any(output.iterdir())):
        raise StartupError(f"{output} exists and is not a bundle", "name a new folder, or remove that one yourself")


def _recipe(place: Place, options: Options, hashes: FileHashes) -> Recipe:
    try:
        return recipe_of(place, options, hashes)
    except OSError as error:
        raise CheckpointError(f"{error.filename} cannot be read: {error.strerror}", "check the file") from error


def _read(place: Place, options: Options) -> Checkpoint | Path:
    """The checkpoint's descriptions; of static embeddings, where their rows are. Raises CheckpointError."""
    from models.kinds import read
    from models.static_sources import find_static

    return find_static(place, options) or read(place.folder, options.pooling)


def _write_bundle(
    folder: Path, source: str, place: Place, recipe: Recipe, checkpoint: Checkpoint | Path, say: Say
) -> None:
    """Fills an empty folder with a verified bundle."""
    options = recipe.options
    if isinstance(checkpoint, Path):
        from models.static_sources import write_static

        static = write_static(folder, place, checkpoint, options, say)
        _write_static_parts(folder, source, place, recipe, static, say)
        return
    route = options.route or _route(checkpoint)
    if options.precision == "int8" and route != "native":
        raise CheckpointError(
            f"{checkpoint.folder} is an exported graph, and int8 is made from weights (*.safetensors)"
            if route == "onnx"
            else f"{checkpoint.folder} goes the export route, and int8 graphs are built by the native one",
            "leave --precision out, or add the weights" if route == "onnx" else "leave --precision out",
        )
    if options.precision == "int8" and checkpoint.classifier is not None:
        raise CheckpointError(
            f"{checkpoint.folder} is a classifier, and int8 is for embeddings", "leave --precision out"
        )
    if route != "export":
        return _write_parts(folder, source, place, recipe, checkpoint, route, say)
    from models.export import exported

    with exported(checkpoint, folder.parent, say) as export:
        _write_parts(folder, source, place, recipe, export.checkpoint, route, say, export.golden)


def _write_parts(
    folder: Path,
    source: str,
    place: Place,
    recipe: Recipe,
    checkpoint: Checkpoint,
    route: Route,
    say: Say,
    reference: Reference | None = None,
) -> None:
    """The graph, the tokenizer and golden vectors, verified; what `reference` gives is what they should be."""
    from models import targets
    from models.tokenizer_file import write_tokenizer

    options = recipe.options
    write_tokenizer(checkpoint, folder)
    say(f"building the graph ({route} route)")
    graph = _build(checkpoint, route)
    files = [*graph.save(folder), TOKENIZER_JSON, GOLDEN_JSON]
    bundle = _described(checkpoint, graph, route, source, recipe)
    _write_golden(folder, bundle, place, reference)  # before anything is rounded: int8 is measured against float32
    if options.precision == "int8":
        say("quantising")
        _quantised(checkpoint, folder, bundle).save(folder)
    if (options.target, options.precision) == ("cuda", "fp16"):  # roundings would hide padding that leaks a little
        _seal(folder, bundle.model_copy(update={"target": "cpu", "precision": "fp32"}), files, say)
    bundle = targets.adapt(folder, bundle, keep_padding=options.keep_padding)
    _seal(folder, bundle, files, say)


def _write_static_parts(folder: Path, source: str, place: Place, recipe: Recipe, static: Static, say: Say) -> None:
    """What is left to write beside the rows of static embeddings."""
    files = [*static.graph.save(folder), *static.files, GOLDEN_JSON]
    bundle = _described(static.checkpoint, static.graph, "native", source, recipe)
    is_mean = static.is_mean and bundle.mean_of_tokens
    bundle = bundle.model_copy(update={"static": True, "words": static.words, "mean_of_tokens": is_mean})
    _write_golden(folder, bundle, place, static.golden)
    _seal(folder, bundle, files, say)


def _described(checkpoint: Checkpoint, graph: Graph, route: Route, source: str, recipe: Recipe) -> Bundle:
    """Still without the hashes of its files."""
    options = recipe.options
    return Bundle(
        format=FORMAT,
        model_id=recipe.model_id,
        dimensions=checkpoint.dimensions,
        max_seq_length=checkpoint.max_seq_length,
        normalized=checkpoint.normalized,
        task=checkpoint.task,
        inputs=graph.inputs,
        pad_token_id=checkpoint.pad_token_id,
        precision=options.precision,
        target=options.target,
        prompts=dict(checkpoint.prompts),
        default_prompt_name=checkpoint.default_prompt_name,
        matryoshka_dimensions=checkpoint.matryoshka_dimensions,
        pooling=_pooling_name(checkpoint),
        mean_of_tokens=checkpoint.mean_of_tokens,
        similarity_fn_name=checkpoint.similarity_fn_name,
        max_active_dimensions=checkpoint.splade.max_active_dimensions if checkpoint.splade else None,
        late_interaction=checkpoint.late,
        **_score_fields(checkpoint),
        provenance=Provenance(source=readable(source), route=route, compiler=COMPILER, checkpoint=recipe.checkpoint),
        files={},
    )


def _seal(folder: Path, bundle: Bundle, files: Sequence[str], say: Say) -> None:
    """Writes bundle.json with the hashes of `files`, and checks all of it."""
    bundle = bundle.model_copy(update={"files": {name: sha256_of(folder / name) for name in files}})
    (folder / BUNDLE_JSON).write_text(bundle.model_dump_json(indent=2) + "\n", "utf-8")
    _verify(folder, bundle, say)


def _pooling_name(checkpoint: Checkpoint) -> str | None:
    """For people."""
    if checkpoint.splade:
        return "splade"
    return None if checkpoint.late else str(checkpoint.pooling) or None


def _score_fields(checkpoint: Checkpoint) -> dict[str, Any]:
    """Those of a bundle that gives scores; none where it does not."""
    found = checkpoint.classifier
    if found is None:
        return {}
    return {"labels": found.labels, "activation": found.activation, "probabilities": found.probabilities}


def _route(checkpoint: Checkpoint) -> Route:
    """Weights are preferred: the graph built from them is the faster one. torch is the last resort."""
    from models import native
    from models.onnx_route import find_graph
    from models.weights import has_weights

    weighty = has_weights(checkpoint.folder)
    model_type = checkpoint.config.get("model_type")
    if weighty and str(model_type) in native.FAMILIES:
        return "native"
    if find_graph(checkpoint.folder) is not None:
        return "onnx"
    if weighty:
        from models.export import EXTRA, missing_packages

        if not (missing := missing_packages()):
            return "export"
        raise CheckpointError(
            f"model_type {model_type!r} cannot be built from its weights ({', '.join(native.FAMILIES)} can), and "
            f"to export it with torch, {', '.join(missing)} is missing",
            f"{EXTRA}, or put an ONNX export of the encoder into the folder as onnx/model.onnx",
        )
    raise CheckpointError(
        f"{checkpoint.folder} has neither model.safetensors nor onnx/model.onnx (pickled weights are never loaded)",
        "save the model again with a current sentence-transformers (safe_serialization)",
    )


def _build(checkpoint: Checkpoint, route: Route) -> Graph:
    if route == "native":
        from models import native

        return native.build(checkpoint)
    from models import onnx_route

    return onnx_route.build(checkpoint)


def _quantised(checkpoint: Checkpoint, folder: Path, bundle: Bundle) -> Graph:
    """The graph of `checkpoint` in 8 bits, whose float32 graph lies in `folder`."""
    from models import calibrate, native

    return native.build_int8(checkpoint, calibrate.peaks(folder, bundle, checkpoint.vocab_size))


def _write_golden(folder: Path, bundle: Bundle, place: Place, reference: Reference | None) -> None:
    """A reference's vectors where there is one; otherwise this graph's own, for later checks."""
    from models.verify import record_golden

    packaged = place.entry.golden_file if place.entry else None
    if packaged is not None:
        content = packaged.read_text("utf-8")
    elif reference is not None:
        content = reference(folder, bundle).model_dump_json()
    else:
        content = record_golden(folder, bundle, reference="compile").model_dump_json()
    (folder / GOLDEN_JSON).write_text(content, "utf-8")


_WRONG_VECTORS: dict[Precision, str] = {
    "fp16": "16 bits are too few for this checkpoint: compile with --precision fp32",
    "fp32": "the checkpoint's files do not belong together, or this is a defect of the compiler: report it",
    "int8": "8 bits are too few for this checkpoint: leave --precision out",
}


def _verify(folder: Path, bundle: Bundle, say: Say) -> None:
    """Raises CheckpointError: a bundle with wrong vectors is never published."""
    from models import targets

    _judge(_checked(folder, None, bundle.precision), say)
    with targets.rounded_graph(folder, bundle) as graph:
        if graph is not None:
            say(f"rounding as {bundle.target} does")
            _judge(_checked(folder, graph, bundle.precision), say)


def _checked(folder: Path, graph: Path | None, precision: Precision) -> CheckReport:
    from models.verify import check

    try:
        return check(folder, graph)
    except BundleError as error:  # float32 did not fail: float16 cannot hold some number, or has no such operator
        if precision != "fp16":
            raise
        raise CheckpointError(error.message, _WRONG_VECTORS[precision]) from error


def _judge(report: CheckReport, say: Say) -> None:
    if not report.passed:
        raise CheckpointError(
            f"the compiled graph disagrees with {report.reference}: {report.finding}",
            _WRONG_VECTORS[report.precision],
        )
    found = f"scores within {report.max_abs_difference:.1e}" if report.is_score else ""
    found = found or f"cosine ≥ {_floor(report.worst_cosine)}"
    say(f"verified {len(report.texts)} texts against {report.reference}: {found}")


def _floor(cosine: float) -> str:
    """Seven digits, never rounded up: 0.99999999 must not read as 1."""
    return f"{math.floor(cosine * 1e7) / 1e7:.7f}"
