"""Golden texts through the very sessions that will serve: a kernel that computes wrongly here never answers a request.

A bundle's files may be as recorded, and its vectors wrong all the same: by a kernel for this CPU or GPU, a driver, a
version of ONNX Runtime. What is compared here is what `embedserve check` compares, of fewer texts: those that together
take as long as a few requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bundle import RECOMPILE, Bundle, Golden
from service.encoder import Encoder
from service.errors import BundleError, CheckHangs, InferenceError, StartupError
from service.precision import Precision
from service.tokenizer import Tokenizer
from service.types import Matrix, PairTemplate, TwoPartRow

MINIMUM_COSINE: dict[Precision, float] = {"fp32": 0.9999, "int8": 0.99, "fp16": 0.9995}
"""Per precision, to the golden vectors. What is below it is a wrong graph, not rounding."""

MAXIMUM_DIFFERENCE = 1e-3
MAXIMUM_DIFFERENCE_FP16 = 2e-2  # of logits, which a sigmoid makes 0.005 at most
"""The same for scores, whose logits are compared as they are: a cosine would say nothing of a single number."""

GOLDEN_QUERY = "Where is the cat?"
"""The first text of the pairs that a scoring model reads; the golden texts are the second."""

_TOKENS = 64  # of the golden texts that are run at a start
_MEASURING = 0.02  # seconds
_RUNS = 3  # at least, as the machine may stall during any one of them


def run(encoder: Encoder, bundle: Bundle, rows: Sequence[Sequence[int]], *, lone: bool = False) -> Matrix:
    """One vector a row: what the bundle's task gives; of vectors of tokens the first, middle and last, in line.

    `lone` is for Encoder's session of that name. Raises InferenceError.
    """
    if bundle.task != "tokens":
        return encoder.run_lone(rows) if lone else encoder.run(rows)
    found = encoder.run_lone_tokens(rows) if lone else encoder.run_tokens(rows)
    return np.stack([states[[0, len(states) // 2, -1]].ravel() for states in found])


def golden_matrix(golden: Golden, dimensions: int) -> Matrix:
    """(texts, dimensions); of another width where the numbers are not sparse. Raises ValueError for ragged ones."""
    if golden.indices is None:
        return np.array(golden.vectors, np.float32)
    matrix = np.zeros((len(golden.texts), dimensions), np.float32)
    for row, places, numbers in zip(matrix, golden.indices, golden.vectors, strict=True):
        row[list(places)] = numbers
    return matrix


def golden_rows(tokenizer: Tokenizer, bundle: Bundle, texts: Sequence[str]) -> Sequence[Sequence[int]]:
    """What the model is run on for each golden text."""
    if bundle.task == "score" and (template := _template(tokenizer)) is not None:
        return _pair_rows(tokenizer, template, bundle.max_seq_length, texts)
    return single_rows(tokenizer, bundle, texts)


def single_rows(tokenizer: Tokenizer, bundle: Bundle, texts: Sequence[str]) -> list[list[int]]:
    """Token ids with special tokens, cut to the model's limit as sentence-transformers cuts."""
    blank = [bundle.pad_token_id] if bundle.static else []
    room = bundle.max_seq_length - tokenizer.special_tokens
    return [
        [*tokenizer.prefix, *one.ids[:room], *tokenizer.suffix] or blank
        for one in tokenizer.encode(texts, [""] * len(texts), room)
    ]


def unit(vectors: Matrix) -> NDArray[np.float64]:
    """(rows, dimensions), each row divided by its L2 norm; float64 tells a cosine of 1 from 0.9999999."""
    wide = vectors.astype(np.float64)
    found: NDArray[np.float64] = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return found


def cosine(left: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """Of unit vectors; two empty ones are alike: a sparse vector may hold nothing."""
    return float(left @ right) if left.any() or right.any() else 1.0


def check_itself(folder: Path, bundle: Bundle, golden: Golden, tokenizer: Tokenizer, encoder: Encoder) -> float:
    """Short golden texts in one batch, through each session, against their golden vectors. → tokens a second.

    Raises StartupError where they differ by more than rounding does, BundleError for golden vectors of another shape.
    """
    rows = golden_rows(tokenizer, bundle, golden.texts)
    few = _shortest(rows, bundle.max_seq_length)
    expected = golden_matrix(golden, bundle.dimensions)[few]
    for lone in (False, True) if encoder.has_lone_session else (False,):
        found = _run(folder, bundle, encoder, [rows[i] for i in few], lone=lone)
        if found.shape != expected.shape:
            raise BundleError(
                f"{folder}: the graph gives vectors of shape {found.shape[1:]}, the golden ones have "
                f"{expected.shape[1:]}",
                RECOMPILE,
            )
        if (wrong := _difference(found, expected, bundle)) is not None:
            raise StartupError(
                f"{folder} gives wrong vectors on this machine: {wrong}",
                f"see embedserve check {folder}; its files are as recorded, so try another --precision, --device or "
                "version of ONNX Runtime",
            )
    return _speed(folder, bundle, encoder, [rows[i] for i in few])


def in_time(check: Callable[[], float], seconds: float) -> float:
    """What `check` returns or raises, on a thread of its own: where the runtime hangs that is left behind, as it cannot
    be ended, and keeps no process from ending. Raises CheckHangs."""
    found: Future[float] = Future()

    def run() -> None:
        try:
            found.set_result(check())
        except BaseException as raised:  # noqa: BLE001 - belongs to who waits for it
            found.set_exception(raised)

    thread = threading.Thread(target=run, name="self-check", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise CheckHangs(seconds, thread.is_alive)
    return found.result()


def _speed(folder: Path, bundle: Bundle, encoder: Encoder, rows: Sequence[Sequence[int]]) -> float:
    """Tokens a second in the best of some runs, as others may need the machine as well."""
    took: list[float] = []
    end = time.perf_counter() + _MEASURING
    while (started := time.perf_counter()) < end or len(took) < _RUNS:
        _run(folder, bundle, encoder, rows, lone=False)
        took.append(time.perf_counter() - started)
    return sum(map(len, rows)) / min(took)


def _run(folder: Path, bundle: Bundle, encoder: Encoder, rows: Sequence[Sequence[int]], *, lone: bool) -> Matrix:
    try:
        return run(encoder, bundle, rows, lone=lone)
    except InferenceError as error:
        raise BundleError(f"{folder} cannot be run: {error.detail}", RECOMPILE) from error


def _shortest(rows: Sequence[Sequence[int]], length: int) -> list[int]:
    """Places of the shortest rows, one at least, that have no more than _TOKENS together, and were not cut."""
    places = sorted((i for i, row in enumerate(rows) if len(row) < length), key=lambda i: len(rows[i]))
    found: list[int] = []
    total = 0
    for place in places:
        total += len(rows[place])
        if found and total > _TOKENS:
            break
        found.append(place)
    return found or list(range(min(1, len(rows))))


def _difference(found: Matrix, expected: Matrix, bundle: Bundle) -> str | None:
    """In words; None where there is none but rounding. What is no number differs."""
    if bundle.task == "score":
        most = MAXIMUM_DIFFERENCE_FP16 if bundle.precision == "fp16" else MAXIMUM_DIFFERENCE
        worst = float(np.abs(found - expected).max())
        return None if worst <= most else f"scores differ by {worst:.1e} from the golden ones"
    cosines = [cosine(*both) for both in zip(unit(found), unit(expected), strict=True)]
    if all(one >= MINIMUM_COSINE[bundle.precision] for one in cosines):
        return None
    return f"a cosine of {min(cosines):.4f} to the golden ones, {MINIMUM_COSINE[bundle.precision]} is the least"


def _template(tokenizer: Tokenizer) -> PairTemplate | None:
    """None where the model reads single texts only."""
    try:
        return tokenizer.pair
    except BundleError:
        return None


def _pair_rows(tokenizer: Tokenizer, template: PairTemplate, length: int, texts: Sequence[str]) -> list[TwoPartRow]:
    """GOLDEN_QUERY and each text, which is cut to fit."""
    query, *seconds = (one.ids for one in tokenizer.encode([GOLDEN_QUERY, *texts], [""] * (len(texts) + 1), length))
    before = [*template.prefix, *query, *template.middle]
    before = before[: length - len(template.suffix) - 1]
    room = length - len(before) - len(template.suffix)
    return [TwoPartRow([*before, *second[:room], *template.suffix], len(before)) for second in seconds]
