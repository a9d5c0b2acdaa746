"""What golden texts tell at a load, by a clock of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from service import self_check
from service.bundle import read_bundle, read_golden
from service.self_check import check_itself, golden_matrix
from service.tokenizer import open_tokenizer

USUAL, STALLED = 0.01, 1.0  # seconds of a run


class Encoder:
    """Gives the shortest golden texts their golden vectors. Its runs take as long as they are told to."""

    has_lone_session = False

    def __init__(self, vectors: Any, rows: Sequence[Sequence[int]], took: Sequence[float]) -> None:
        self._known = {tuple(row): vector for row, vector in zip(rows, vectors, strict=True)}
        self._took = list(took)
        self.now = 0.0
        self.tokens = 0

    def run(self, rows: Sequence[Sequence[int]]) -> Any:
        self.now += self._took.pop(0) if self._took else USUAL
        self.tokens = sum(map(len, rows))
        return np.stack([self._known[tuple(row)] for row in rows])


@pytest.mark.parametrize("stalled", range(4))
def test_a_run_in_which_the_machine_stalls_does_not_tell_the_speed(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, stalled: int
) -> None:
    """By what it tells requests would be refused that have all the time they need."""
    described, golden = read_bundle(bundle), read_golden(bundle)
    tokenizer = open_tokenizer(bundle, described)
    rows = self_check.golden_rows(tokenizer, described, golden.texts)
    took = [STALLED if number == stalled else USUAL for number in range(4)]
    encoder: Any = Encoder(golden_matrix(golden, described.dimensions), rows, took)
    monkeypatch.setattr(self_check, "time", SimpleNamespace(perf_counter=lambda: encoder.now))
    speed = check_itself(bundle, described, golden, tokenizer, encoder)
    assert speed == pytest.approx(encoder.tokens / USUAL)
