"""Rows of token ids → one `session.run` → vectors."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.bundle import MODEL_ONNX, OUTPUTS, RECOMPILE, TOKEN_OUTPUT, Bundle, Task
from service.errors import BadVectors, BundleError
from service.runtime.providers import Execution
from service.runtime.session import Session
from service.types import Matrix, TwoPartRow

# Below it, threads wait for each other longer than they work. Two threads of one CPU: 1.2 times as fast at 4 tokens a
# thread, 1.35 at 8, 1.8 at 128.
LONE_TOKENS_A_THREAD = 8


class Encoder:
    """Runs a batch. Safe to call from several threads at once.

    What a call needs beside the weights is led by attention's scores, which are all there at once: rows x heads x
    longest^2 x 4 bytes. Where rows x longest is at most the budget of a batch, that is at most budget x heads x longest
    x 4 bytes for each executor (512 tokens and 12 heads: 13 MB), and heads x length^2 x 4 for a row that is over the
    budget alone (8,192 tokens and 12 heads: 3.2 GB, measured). Graphs that are built for families with more than 2,048
    positions never hold them all (`models/families/attention.py`). ONNX Runtime's arena grows by powers of two, so it
    may hold twice that, and keeps it. `--chunk-max-tokens` bounds the length.
    """

    def __init__(
        self,
        folder: Path,
        bundle: Bundle,
        execution: Execution,
        intra_op_threads: int = 1,
        lone_threads: int = 0,
        graph: Path | None = None,
    ) -> None:
        """Opens the bundle's graph, or `graph` in its place; a second time for `run_lone`, if that is to have more
        threads.

        The second session maps the same weights from the file, and has its own copy of the matrices as its kernels
        want them. Raises BundleError.
        """
        graph = graph or folder / MODEL_ONNX
        self.has_lone_session = lone_threads > intra_op_threads
        threads = [intra_op_threads, lone_threads] if self.has_lone_session else [intra_op_threads]
        with ThreadPoolExecutor(len(threads)) as beside:  # ONNX Runtime opens each of them on a core of its own
            sessions = list(beside.map(partial(Session, graph, execution), threads))
        self._session, self._lone = sessions[0], sessions[-1]
        self._lone_tokens = LONE_TOKENS_A_THREAD * lone_threads
        if self._session.inputs != set(bundle.inputs) or self._session.outputs != set(OUTPUTS[bundle.task]):
            found = f"inputs {sorted(self._session.inputs)}, outputs {sorted(self._session.outputs)}"
            raise BundleError(f"{graph} is not the graph that bundle.json describes: {found}", RECOMPILE)
        self._output = OUTPUTS[bundle.task][0]
        self._inputs = bundle.inputs
        self._task = bundle.task
        self._pad_token_id = bundle.pad_token_id
        self._may_be_zero = bundle.static or bundle.task in ("sparse", "score")

    def run(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """Token ids with their special tokens, one row a chunk → the main output of the bundle's task, for each row
        an array: (rows, …). Raises InferenceError; of it BadVectors, which names the rows that are to blame."""
        return self._run(self._session, self._output, rows)

    def run_lone(self, rows: Sequence[Sequence[int]]) -> Matrix:
        """As `run`, for a batch that has the machine to itself: on `lone_threads`, if it is large enough for them."""
        return self._run(self._lone_session(rows), self._output, rows)

    def run_tokens(self, rows: Sequence[Sequence[int]]) -> list[Matrix]:
        """As `run` → for each row (its length, hidden): one vector a token, special tokens included."""
        return _unpadded(self._run(self._session, TOKEN_OUTPUT, rows), rows)

    def run_lone_tokens(self, rows: Sequence[Sequence[int]]) -> list[Matrix]:
        """As `run_tokens`, on `lone_threads` as `run_lone`."""
        return _unpadded(self._run(self._lone_session(rows), TOKEN_OUTPUT, rows), rows)

    def _lone_session(self, rows: Sequence[Sequence[int]]) -> Session:
        return self._lone if sum(map(len, rows)) >= self._lone_tokens else self._session

    def _run(self, session: Session, output: str, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        feeds = padded_feeds(rows, self._inputs, self._pad_token_id, self._task)
        result = session.run([output], feeds)[0]
        check_vectors(result, may_be_zero=self._may_be_zero)
        return result


def check_vectors(vectors: NDArray[np.float32], *, may_be_zero: bool) -> None:
    """(rows, …). Raises BadVectors for rows with a number that is not finite, and for those of zeros only.

    Zero is what a text without any known word has for its sum of word vectors, what a text without any weight has for
    its sparse vector, and what a logit may be. Of an encoder it is the sign of a broken graph, and no cosine exists.
    """
    flat = vectors.reshape(len(vectors), -1)
    squares = np.einsum("ij,ij->i", flat, flat)  # one pass tells NaN, infinity and zero: 3 µs for 8 x 384 numbers
    if squares.max() < np.inf and (may_be_zero or squares.min() > 0):  # both are NaN where one of them is
        return
    bad = ~np.isfinite(squares)
    if not may_be_zero:
        bad |= squares == 0
    kind = "zero" if np.isfinite(squares).all() else "not finite"
    raise BadVectors(f"the model gave a vector that is {kind}", tuple(map(int, np.flatnonzero(bad))))


def _unpadded(states: NDArray[np.float32], rows: Sequence[Sequence[int]]) -> list[Matrix]:
    """(rows, longest row, width) → for each row (its length, width)."""
    return [state[: len(row)] for state, row in zip(states, rows, strict=True)]


def padded_feeds(
    rows: Sequence[Sequence[int]], inputs: Sequence[str], pad_token_id: int, task: Task = "embedding"
) -> dict[str, NDArray[np.int64]]:
    """The graph's inputs, each (rows, longest row), padded on the right and masked.

    What a row's two parts are follows from task and graph: what fills a query up, to which nothing attends; what is
    pooled and what not; or the texts of a pair.
    """
    longest = max(map(len, rows))
    input_ids = np.full((len(rows), longest), pad_token_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = row
        attention_mask[i, : len(row)] = 1
    feeds = {"input_ids": input_ids, "attention_mask": attention_mask}
    parted = [(i, row.split, len(row)) for i, row in enumerate(rows) if isinstance(row, TwoPartRow)]
    if "token_type_ids" in inputs:
        feeds["token_type_ids"] = np.zeros_like(input_ids)
    if task == "tokens":
        for i, split, _ in parted:
            attention_mask[i, split:] = 0
    elif "pooling_mask" in inputs:
        feeds["pooling_mask"] = attention_mask.copy()
        for i, split, _ in parted:
            feeds["pooling_mask"][i, :split] = 0
    elif "token_type_ids" in inputs:
        for i, split, length in parted:
            feeds["token_type_ids"][i, split:length] = 1
    return {name: feeds[name] for name in inputs}
