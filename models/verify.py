"""Whether a bundle gives the vectors it should: its files by hash, its graph by golden texts."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.golden_vectors import golden_rows, width
from service import self_check
from service.bundle import Bundle, Golden, read_bundle, read_golden, verify_files
from service.encoder import Encoder
from service.errors import BundleError, InferenceError
from service.precision import Precision
from service.runtime.providers import CPU, Execution
from service.self_check import (
    MAXIMUM_DIFFERENCE,
    MAXIMUM_DIFFERENCE_FP16,
    cosine,
    golden_matrix,
    run,
    single_rows,
    unit,
)
from service.tokenizer import open_tokenizer
from service.types import Matrix

_Scale = Callable[[Matrix], NDArray[np.float64]]

MINIMUM_BATCH_COSINE = 0.999999
"""Between a text alone and the same text padded in a batch: below it, padding leaks into the vectors."""

MINIMUM_BATCH_COSINE_FP16 = 0.9999
"""The same where values are rounded to float16: kernels for other shapes add up in another order before that."""

MAXIMUM_BATCH_DIFFERENCE = 1e-4
"""The same for scores."""

GOLDEN_TEXTS = (
    "A cat sat on the mat.",
    "Größere Übungen für müde Füße: Ärger, Öl und Straßenbahn in Köln.",
    "机器学习模型把一句话变成一个向量,意思相近的句子彼此靠近。",
    "Семантический поиск находит документы по смыслу, а не по отдельным словам.",
    "for (int i = 0; i < n; ++i) { total += weights[i] * values[i]; }  // dot product",
    "مرحبا بالعالم! 😀👩‍💻🇯🇵",
    "",
    "the river runs past the mill and the mill grinds the corn and the corn feeds the town " * 40,
)
"""For checkpoints that come without reference vectors: several scripts, the empty text, one over any limit."""


@dataclass(frozen=True)
class TextResult:
    """One golden text: cosine and largest absolute difference to its golden vector, both after normalisation; of
    scores, which are not normalised, only the differences count."""

    text: str
    tokens: int
    cosine: float
    max_abs_difference: float
    batch_cosine: float  # alone against padded in one batch of all
    batch_difference: float  # the largest absolute one


@dataclass(frozen=True)
class CheckReport:
    """The outcome of `check`."""

    model_id: str
    precision: Precision
    reference: str  # what gave the golden vectors
    files: int
    texts: tuple[TextResult, ...]
    is_score: bool = False
    minimum_batch_cosine: float = MINIMUM_BATCH_COSINE

    @property
    def worst_cosine(self) -> float:
        """To the golden vectors."""
        return float(np.min([one.cosine for one in self.texts]))  # NaN where one is

    @property
    def max_abs_difference(self) -> float:
        """To the golden vectors."""
        return float(np.max([one.max_abs_difference for one in self.texts]))

    @property
    def worst_batch_cosine(self) -> float:
        """Between alone and batched."""
        return float(np.min([one.batch_cosine for one in self.texts]))

    @property
    def max_batch_difference(self) -> float:
        """Between alone and batched."""
        return float(np.max([one.batch_difference for one in self.texts]))

    @property
    def finding(self) -> str:
        """What was found, in a line."""
        if self.is_score:
            worst, batch = f"{self.max_abs_difference:.1e}", f"{self.max_batch_difference:.1e}"
            return f"scores differ by {worst} at most, {batch} between alone and in a batch"
        return f"cosine {self.worst_cosine:.7f}, {self.worst_batch_cosine:.7f} between alone and in a batch"

    @property
    def passed(self) -> bool:
        """Both cosines are above their limits, or both differences of scores below theirs; false for what is no
        number."""
        if self.is_score:
            most = MAXIMUM_DIFFERENCE_FP16 if self.precision == "fp16" else MAXIMUM_DIFFERENCE
            least = MAXIMUM_BATCH_DIFFERENCE if self.minimum_batch_cosine == MINIMUM_BATCH_COSINE else most
            return self.max_abs_difference <= most and self.max_batch_difference <= least
        near = self.worst_cosine >= self_check.MINIMUM_COSINE[self.precision]
        return near and self.worst_batch_cosine >= self.minimum_batch_cosine


def check(folder: Path, graph: Path | None = None, execution: Execution = CPU) -> CheckReport:
    """Of the bundle's graph, or of `graph`, which rounds as its device does; on a CPU, or where `execution` says.

    Raises BundleError for files that are missing, changed or unusable; a wrong vector is in the report.
    """
    bundle = read_bundle(folder)
    verify_files(folder, bundle)
    golden = read_golden(folder)
    expected = golden_matrix(golden, bundle.dimensions)
    if not golden.texts or expected.shape != (len(golden.texts), width(bundle)):
        raise BundleError(
            f"{folder}: golden vectors of shape {expected.shape} for {len(golden.texts)} texts "
            f"of {width(bundle)} dimensions",
            "compile it again",
        )
    rows = _rows(folder, bundle, golden.texts)
    with runnable(folder, bundle, execution) as other:
        encoder = Encoder(folder, bundle, execution, graph=graph or other)
        alone = np.concatenate([_run(encoder, bundle, [row]) for row in rows])
        batched = _run(encoder, bundle, rows)
    if alone.shape != expected.shape:
        raise BundleError(f"{folder}: the graph gives {alone.shape[1]} dimensions", "compile it again")
    return CheckReport(
        model_id=bundle.model_id,
        precision=bundle.precision,
        reference=golden.reference,
        files=len(bundle.files),
        texts=_compare(golden.texts, rows, alone, batched, expected, _scale(bundle)),
        is_score=bundle.task == "score",
        minimum_batch_cosine=_minimum_batch_cosine(bundle, execution, is_rounded=graph is not None),
    )


@contextmanager
def runnable(folder: Path, bundle: Bundle, execution: Execution) -> Iterator[Path | None]:
    """The bundle's graph in a form that there are kernels for, for as long as it is used; None: as it is."""
    if not bundle.packed or execution.execution_providers != CPU.execution_providers:
        yield None
        return
    from models.targets import cpu_graph

    with cpu_graph(folder, bundle) as found:
        yield found


def _minimum_batch_cosine(bundle: Bundle, execution: Execution, *, is_rounded: bool) -> float:
    """A graph for CUDA has float16 in it, which a CPU rounds to as well: ONNX Runtime leaves out casts between two
    kernels, and not all of those. One for TensorRT is float32 until TensorRT builds its engine."""
    rounds = bundle.target == "cuda" or is_rounded or execution.bound_to is not None
    return MINIMUM_BATCH_COSINE_FP16 if bundle.precision == "fp16" and rounds else MINIMUM_BATCH_COSINE


def render(report: CheckReport) -> str:
    """The report as lines for a person."""
    lines = [
        f"{report.model_id} ({report.precision}): {report.files} files are as recorded",
        f"golden texts against {report.reference}:",
        *(_score_lines(report) if report.is_score else _vector_lines(report)),
        f"{'passed' if report.passed else 'FAILED'}: {report.finding}",
    ]
    return "\n".join(lines)


def _vector_lines(report: CheckReport) -> list[str]:
    return [
        "  tokens     cosine   max |Δ|  in a batch  text",
        *(
            f"  {one.tokens:6d}  {one.cosine:.7f}  {one.max_abs_difference:.1e}   {one.batch_cosine:.7f}  {_shown(one)}"
            for one in report.texts
        ),
    ]


def _score_lines(report: CheckReport) -> list[str]:
    return [
        "  tokens  max |Δ| of the scores  in a batch  text",
        *(
            f"  {one.tokens:6d}  {one.max_abs_difference:21.1e}  {one.batch_difference:10.1e}  {_shown(one)}"
            for one in report.texts
        ),
    ]


def _shown(one: TextResult) -> str:
    return textwrap.shorten(one.text, 48, placeholder=" …") or "(empty)"


def record_golden(folder: Path, bundle: Bundle, reference: str, texts: tuple[str, ...] = GOLDEN_TEXTS) -> Golden:
    """The vectors this very bundle gives for `texts`, one at a time."""
    encoder = Encoder(folder, bundle, CPU)
    vectors = np.concatenate([_run(encoder, bundle, [row]) for row in _rows(folder, bundle, texts)])
    return golden_of(vectors, reference, bundle, texts)


def golden_of(vectors: Matrix, reference: str, bundle: Bundle, texts: tuple[str, ...] = GOLDEN_TEXTS) -> Golden:
    """`vectors` (texts, dimensions) that `reference` gives for `texts`."""
    indices, numbers = golden_rows(_scale(bundle)(vectors), is_sparse=bundle.task == "sparse")
    return Golden(reference=reference, texts=texts, vectors=numbers, indices=indices)


def token_rows(folder: Path, bundle: Bundle, texts: Sequence[str]) -> list[list[int]]:
    """Token ids with special tokens, cut to the model's limit as sentence-transformers cuts."""
    return single_rows(open_tokenizer(folder, bundle), bundle, texts)


def _rows(folder: Path, bundle: Bundle, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """What the model is run on for each golden text."""
    return self_check.golden_rows(open_tokenizer(folder, bundle), bundle, texts)


def _run(encoder: Encoder, bundle: Bundle, rows: Sequence[Sequence[int]]) -> Matrix:
    """Raises BundleError: what fails on golden texts is no request's fault."""
    try:
        return run(encoder, bundle, rows)
    except InferenceError as error:
        raise BundleError(
            f"the graph fails on golden texts: {error.detail}",
            "the weights may be damaged: fetch the checkpoint again, and compile it again",
        ) from error


def _compare(
    texts: Sequence[str],
    rows: Sequence[Sequence[int]],
    alone: Matrix,
    batched: Matrix,
    expected: Matrix,
    scale: _Scale,
) -> tuple[TextResult, ...]:
    """`scale` brings what is compared to a common size."""
    units, batch_units, golden = unit(alone), unit(batched), unit(expected)
    sizes, batch_sizes, golden_sizes = scale(alone), scale(batched), scale(expected)
    return tuple(
        TextResult(
            text=text,
            tokens=len(rows[i]),
            cosine=cosine(units[i], golden[i]),
            max_abs_difference=float(np.abs(sizes[i] - golden_sizes[i]).max()),
            batch_cosine=cosine(units[i], batch_units[i]),
            batch_difference=float(np.abs(sizes[i] - batch_sizes[i]).max()),
        )
        for i, text in enumerate(texts)
    )


def _scale(bundle: Bundle) -> _Scale:
    """Scores as they are, vectors as unit vectors."""
    return _as_they_are if bundle.task == "score" else unit


def _as_they_are(scores: Matrix) -> NDArray[np.float64]:
    return scores.astype(np.float64)
