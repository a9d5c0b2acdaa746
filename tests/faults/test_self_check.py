"""Golden texts at the start: what computes wrongly never serves, at the start and where a model is loaded later."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.compile import compile_checkpoint
from service.encoder import Encoder
from service.errors import BundleError, StartupError
from service.opening import open_bundle
from service.runtime.wheel import ort
from service.settings import ServedModel
from tests.faults.conftest import MAKE


@pytest.fixture(scope="module", params=MAKE)
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of each task."""
    root = tmp_path_factory.mktemp(request.param)
    source = MAKE[request.param](root / "checkpoint")
    return compile_checkpoint(str(source), cache_dir=root, output=root / "bundle", say=lambda _: None)


def miscompile(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[NDArray[Any]], NDArray[Any]], *, lone: bool) -> None:
    """Of the two sessions, the lone one has two threads."""
    run: Callable[..., list[NDArray[Any]]] = ort.InferenceSession.run

    def wrong(session: Any, *arguments: Any) -> list[NDArray[Any]]:
        results = run(session, *arguments)
        is_lone = session.get_session_options().intra_op_num_threads > 1
        return [spoil(one) for one in results] if is_lone == lone else results

    monkeypatch.setattr(ort.InferenceSession, "run", wrong)


def settings(folder: Path) -> ServedModel:
    return ServedModel(model=str(folder), executors=2, intra_op_threads=1)


@pytest.mark.parametrize("lone", [False, True])
def test_wrong_vectors_of_either_session_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch, lone: bool) -> None:
    assert open_bundle(tiny, settings(tiny)).encoder.has_lone_session
    miscompile(monkeypatch, lambda result: result + np.linspace(1, 5, result.shape[-1], dtype=np.float32), lone=lone)
    with pytest.raises(StartupError, match="wrong vectors on this machine") as refused:
        open_bundle(tiny, settings(tiny))
    assert not isinstance(refused.value, BundleError), "whose files would be compiled anew, which does not help"
    assert "embedserve check" in refused.value.remedy


def test_vectors_that_are_not_finite_are_refused(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miscompile(monkeypatch, lambda result: result * np.float32(np.nan), lone=False)
    with pytest.raises(BundleError, match="not finite"):
        open_bundle(tiny, settings(tiny))


def test_rounding_is_no_reason(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    miscompile(monkeypatch, lambda result: result * np.float32(1 + 1e-6), lone=False)
    assert isinstance(open_bundle(tiny, settings(tiny)).encoder, Encoder)
