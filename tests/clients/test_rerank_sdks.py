"""Rerankers and classifiers by the packages `cohere`, `voyageai` and `huggingface_hub`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.compile import compile_checkpoint
from tests.clients.environments import Python
from tests.conftest import StartServer
from tests.e2e.process import Server
from tests.models.reference import sigmoid
from tests.models.scores import expected_logits, write_cross_encoder

pytestmark = pytest.mark.heavy

KEY = "rerank-e2e-0123456789abcdef"
QUERY, DOCUMENTS = "the mill", ["the river", "abc def ghi", "mill mill", "the river and the mill"]
COHERE = Python("cohere", ("cohere==7.3.1",))
VOYAGE = Python("voyageai", ("voyageai==0.5.0",))
HUGGING_FACE = Python("huggingface", ("huggingface_hub==2.4.0", "numpy==2.4.6", "tei-client==0.2.4"))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the bundles of a reranker whose scores are between 0 and 1, and of a classifier."""
    root = tmp_path_factory.mktemp("scores")
    for name, labels in (("reranker", 1), ("classifier", 3)):
        source = write_cross_encoder(root / f"tiny-{name}", labels)
        compile_checkpoint(str(source), cache_dir=root / "cache", output=root / name, say=print)
    return root


@pytest.fixture(scope="module")
def reranker(launch: StartServer, bundles: Path) -> Server:
    return launch(model=bundles / "reranker", env={"EMBEDSERVE_API_KEYS": KEY})


@pytest.fixture(scope="module")
def expected(bundles: Path) -> list[tuple[int, float]]:
    """Place and score, the best first."""
    logits = np.array([expected_logits(bundles / "reranker", QUERY, text)[0] for text in DOCUMENTS])
    return [(int(i), float(sigmoid(logits)[i])) for i in np.argsort(-logits)]


def assert_ranking(found: Any, expected: list[tuple[int, float]]) -> None:
    assert [index for index, _ in found] == [index for index, _ in expected]
    np.testing.assert_allclose([score for _, score in found], [score for _, score in expected], atol=1e-5)


def test_cohere(reranker: Server, expected: list[tuple[int, float]]) -> None:
    found = COHERE.run("cohere_rerank.py", reranker.url, KEY, "tiny-reranker", QUERY, json.dumps(DOCUMENTS))
    assert_ranking(found["newer"], expected[:2])
    assert_ranking(found["older"], expected)
    assert_ranking(found["fields"], expected)
    assert found["texts"] == [DOCUMENTS[index] for index, _ in expected]
    assert (found["search_units"], found["api_version"]) == (1, "2")
    for name, status, message in (
        ("empty", 400, "documents must not be empty"),
        ("too many", 400, "total number of documents must be at most 1000 - received 1001"),
        ("unknown model", 404, "model 'rerank-v9' not found"),
    ):
        assert found[name]["status"] == status
        assert message in found[name]["message"]


def test_voyageai(reranker: Server, expected: list[tuple[int, float]]) -> None:
    found = VOYAGE.run("voyage_rerank.py", reranker.url, KEY, "tiny-reranker", QUERY, json.dumps(DOCUMENTS))
    assert_ranking(found["whole"], expected)
    assert_ranking(found["best"], expected[:2])
    assert found["texts"] == [DOCUMENTS[index] for index, _ in expected[:2]]
    assert found["tokens"] > 0
    assert "documents must not be empty" in found["refusal"]


def test_huggingface_hub(launch: StartServer, bundles: Path) -> None:
    classifier = launch(model=bundles / "classifier", env={"EMBEDSERVE_API_KEYS": KEY})
    found = HUGGING_FACE.run("huggingface_classify.py", classifier.url, KEY, QUERY)
    logits = expected_logits(bundles / "classifier", QUERY, labels=3)
    order = np.argsort(-logits)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert [label for label, _ in found["usual"]] == [f"LABEL_{i}" for i in order]
    np.testing.assert_allclose([score for _, score in found["usual"]], shares[order], atol=1e-5)
    np.testing.assert_allclose([score for _, score in found["sigmoid"]], sigmoid(logits)[order], atol=1e-5)
    assert found["best"] == found["usual"][:1]
