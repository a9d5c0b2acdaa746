"""Whether a bundle gives the vectors it should: its files by hash, its graph by golden texts."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.golden_vectors import golden_matrix, golden_rows
from service.bundle import TOKENIZER_JSON, Bundle, Golden, read_bundle, read_golden, verify_files
from service.encoder import Encoder
from service.errors import BundleError
from service.precision import Precision
from service.runtime.providers import CPU
from service.tokenizer import Tokenizer
from service.types import Matrix

MINIMUM_COSINE: dict[Precision, float] = {"fp32": 0.9999, "int8": 0.99}
"""Per precision, to the golden vectors. What is below it is a wrong graph, not rounding."""

MINIMUM_BATCH_COSINE = 0.999999
"""Between a text alone and the same text padded in a batch: below it, padding leaks into the vectors."""

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
    """One golden text: cosine and largest absolute difference to its golden vector, both after normalisation."""

    text: str
    tokens: int
    cosine: float
    max_abs_difference: float
    batch_cosine: float  # alone against padded in one batch of all


@dataclass(frozen=True)
class CheckReport:
    """The outcome of `check`."""

    model_id: str
    precision: Precision
    reference: str  # what gave the golden vectors
    files: int
    texts: tuple[TextResult, ...]

    @property
    def worst_cosine(self) -> float:
        """To the golden vectors."""
        return min(one.cosine for one in self.texts)

    @property
    def max_abs_difference(self) -> float:
        """To the golden vectors."""
        return max(one.max_abs_difference for one in self.texts)

    @property
    def worst_batch_cosine(self) -> float:
        """Between alone and batched."""
        return min(one.batch_cosine for one in self.texts)

    @property
    def passed(self) -> bool:
        """Both cosines are above their limits; false for vectors that are not numbers."""
        return self.worst_cosine >= MINIMUM_COSINE[self.precision] and self.worst_batch_cosine >= MINIMUM_BATCH_COSINE


def check(folder: Path) -> CheckReport:
    """Raises BundleError for files that are missing, changed or unusable; a wrong vector is in the report."""
    bundle = read_bundle(folder)
    verify_files(folder, bundle)
    golden = read_golden(folder)
    expected = golden_matrix(golden, bundle.dimensions)
    if not golden.texts or expected.shape != (len(golden.texts), bundle.dimensions):
        raise BundleError(
            f"{folder}: golden vectors of shape {expected.shape} for {len(golden.texts)} texts "
            f"of {bundle.dimensions} dimensions",
            "compile it again",
        )
    rows = token_rows(folder, bundle, golden.texts)
    encoder = Encoder(folder, bundle, CPU)
    alone = np.concatenate([encoder.run([row]) for row in rows])
    if alone.shape != expected.shape:
        raise BundleError(f"{folder}: the graph gives {alone.shape[1]} dimensions", "compile it again")
    return CheckReport(
        model_id=bundle.model_id,
        precision=bundle.precision,
        reference=golden.reference,
        files=len(bundle.files),
        texts=_compare(golden.texts, rows, alone, encoder.run(rows), expected),
    )


def render(report: CheckReport) -> str:
    """The report as lines for a person."""
    lines = [
        f"{report.model_id} ({report.precision}): {report.files} files are as recorded",
        f"golden texts against {report.reference}:",
        "  tokens     cosine   max |Δ|  in a batch  text",
        *(
            f"  {one.tokens:6d}  {one.cosine:.7f}  {one.max_abs_difference:.1e}   {one.batch_cosine:.7f}  "
            f"{textwrap.shorten(one.text, 48, placeholder=' …') or '(empty)'}"
            for one in report.texts
        ),
        f"{'passed' if report.passed else 'FAILED'}: worst cosine {report.worst_cosine:.7f}, "
        f"{report.worst_batch_cosine:.7f} between alone and in a batch",
    ]
    return "\n".join(lines)


def record_golden(folder: Path, bundle: Bundle, reference: str) -> Golden:
    """The vectors this very bundle gives for GOLDEN_TEXTS, one text at a time."""
    encoder = Encoder(folder, bundle, CPU)
    vectors = np.concatenate([encoder.run([row]) for row in token_rows(folder, bundle, GOLDEN_TEXTS)])
    return golden_of(vectors, reference, bundle)


def golden_of(vectors: Matrix, reference: str, bundle: Bundle) -> Golden:
    """`vectors` (texts, dimensions) that `reference` gives for GOLDEN_TEXTS."""
    indices, numbers = golden_rows(_unit(vectors), is_sparse=bundle.task == "sparse")
    return Golden(reference=reference, texts=GOLDEN_TEXTS, vectors=numbers, indices=indices)


def token_rows(folder: Path, bundle: Bundle, texts: Sequence[str]) -> list[list[int]]:
    """Token ids with special tokens, cut to the model's limit as sentence-transformers cuts."""
    tokenizer = Tokenizer(folder / TOKENIZER_JSON)
    room = bundle.max_seq_length - tokenizer.special_tokens
    return [
        [*tokenizer.prefix, *one.ids[:room], *tokenizer.suffix]
        for one in tokenizer.encode(texts, [""] * len(texts), room)
    ]


def _compare(
    texts: Sequence[str], rows: Sequence[Sequence[int]], alone: Matrix, batched: Matrix, expected: Matrix
) -> tuple[TextResult, ...]:
    units, batch_units, golden = _unit(alone), _unit(batched), _unit(expected)
    return tuple(
        TextResult(
            text=text,
            tokens=len(rows[i]),
            cosine=_cosine(units[i], golden[i]),
            max_abs_difference=float(np.abs(units[i] - golden[i]).max()),
            batch_cosine=_cosine(units[i], batch_units[i]),
        )
        for i, text in enumerate(texts)
    )


def _cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Of unit vectors; two empty ones are alike: a sparse vector may hold nothing."""
    return float(left @ right) if left.any() or right.any() else 1.0


def _unit(vectors: Matrix) -> NDArray[np.float64]:
    """(rows, dimensions), each row divided by its L2 norm; float64 tells a cosine of 1 from 0.9999999."""
    wide = vectors.astype(np.float64)
    unit: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
