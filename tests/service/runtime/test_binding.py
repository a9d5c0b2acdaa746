"""The way in and out of a session on a device, bound to the CPU here: the same vectors as without it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.compile import compile_checkpoint
from service.bundle import MODEL_ONNX, OUTPUT, TOKEN_OUTPUT, read_bundle
from service.device_name import DeviceName
from service.encoder import Encoder
from service.errors import BundleError, InferenceError, StartupError
from service.runtime.providers import CPU, Execution
from service.runtime.session import Session
from tests.models.tiny import Tiny

BOUND = replace(CPU, bound_to=DeviceName("cpu"))
Row = list[int]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("tiny")
    return compile_checkpoint(str(Tiny().write(place / "checkpoint")), cache_dir=place / "cache", say=lambda _: None)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> Callable[[Execution], Encoder]:
    return lambda execution: Encoder(folder, read_bundle(folder), execution)


def batches() -> list[list[Row]]:
    """Larger, smaller and larger again: the buffer grows, and is too large at other times."""
    draw = np.random.default_rng(0)
    sizes = [(3, 9), (1, 2), (8, 24), (2, 24), (5, 3)]
    return [[draw.integers(0, 30, length).tolist() for _ in range(rows)] for rows, length in sizes]


def test_bound_runs_give_the_vectors_of_plain_ones(encoder: Callable[[Execution], Encoder]) -> None:
    bound, plain = encoder(BOUND), encoder(CPU)
    for rows in batches():
        np.testing.assert_array_equal(bound.run(rows), plain.run(rows))
        for one, other in zip(bound.run_tokens(rows), plain.run_tokens(rows), strict=True):
            np.testing.assert_array_equal(one, other)


def test_results_are_not_touched_by_later_runs(encoder: Callable[[Execution], Encoder]) -> None:
    bound = encoder(BOUND)
    first, second = batches()[0], batches()[4]
    kept = bound.run(first)
    before = kept.copy()
    bound.run(second)
    np.testing.assert_array_equal(kept, before)


def test_threads_have_a_way_each(encoder: Callable[[Execution], Encoder]) -> None:
    bound, plain = encoder(BOUND), encoder(CPU)
    many = batches() * 20
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(bound.run, many))
    for rows, vectors in zip(many, found, strict=True):
        np.testing.assert_array_equal(vectors, plain.run(rows))


def test_several_outputs_at_once(folder: Path) -> None:
    feeds = {name: np.ones((2, 5), np.int64) for name in ("input_ids", "attention_mask")}
    asked = [TOKEN_OUTPUT, OUTPUT]
    bound, plain = (Session(folder / MODEL_ONNX, one, 1).run(asked, feeds) for one in (BOUND, CPU))
    for one, other in zip(bound, plain, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fault_is_the_same_and_the_next_run_is_well(encoder: Callable[[Execution], Encoder]) -> None:
    bound = encoder(BOUND)
    with pytest.raises(InferenceError):
        bound.run([[1_000_000]])
    assert np.isfinite(bound.run(batches()[0])).all()


def test_a_session_without_its_device_is_not_a_session(folder: Path) -> None:
    """ONNX Runtime itself opens it on the CPU, with a line in its log or none."""
    wanted = Execution(("CUDAExecutionProvider", "CPUExecutionProvider"), (), bound_to=DeviceName("cuda"))
    with pytest.raises((StartupError, BundleError)) as raised:
        Session(folder / MODEL_ONNX, wanted, 1)
    assert "CUDAExecutionProvider" in str(raised.value)
