"""Scores are those of CrossEncoder, whatever version wrote the folder and however long the texts are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from models.compile import compile_checkpoint
from service.bundle import read_bundle
from service.choices import LongInput
from service.registry import Registry
from service.settings import Settings
from service.types import Matrix, Pair, ScoreRequest
from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.parity.families.matrix import REFERENCE
from tests.parity.scores.rows import PAIRS, ROWS, TEXTS, Row

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)]

MAXIMUM_DIFFERENCE = 1e-4
SCRIPT = Path(__file__).with_name("make_cross_encoders.py")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every row's checkpoint and scores."""
    folder = tmp_path_factory.mktemp("scores")
    plan = folder / "plan.json"
    plan.write_text(json.dumps({"rows": [asdict(row) for row in ROWS], "pairs": PAIRS, "texts": TEXTS}), "utf-8")
    assert REFERENCE.run(str(SCRIPT), str(plan), str(folder), env={"HF_HUB_OFFLINE": "1"}) == len(ROWS)
    return folder


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_scores_are_those_of_cross_encoder(row: Row, checkpoints: Path) -> None:
    bundle = compile_checkpoint(str(checkpoints / row.name), cache_dir=checkpoints / "cache", say=lambda line: None)
    expected = np.load(checkpoints / f"{row.name}.npz")
    assert ("token_type_ids" in read_bundle(bundle).inputs) == row.segments
    pairs = [Pair(*one) for one in PAIRS]
    for requests in ([pairs], [[pair] for pair in pairs]):  # together, and one by one
        logits, scores = asyncio.run(_scores(bundle, requests))
        assert logits.shape == expected["logits"].shape
        assert np.abs(logits - expected["logits"]).max() <= MAXIMUM_DIFFERENCE
        assert np.abs(scores - expected["scores"]).max() <= MAXIMUM_DIFFERENCE
    single, _ = asyncio.run(_scores(bundle, [[Pair(text) for text in TEXTS]]))
    assert np.abs(single - expected["single"]).max() <= MAXIMUM_DIFFERENCE
    assert np.ptp(expected["logits"], axis=0).min() > 0.1  # they tell the pairs apart


async def _scores(bundle: Path, requests: Sequence[Sequence[Pair]]) -> tuple[Matrix, Matrix]:
    """Logits and scores (inputs, labels) of all requests, one after another."""
    registry = Registry(Settings(long_input=LongInput.TRUNCATE))
    scorer = (await registry.start([bundle]))[0].scorer
    logits = np.concatenate([(await scorer.score(ScoreRequest(inputs))).logits for inputs in requests])
    await registry.close()
    return logits, scorer.scores(logits)
