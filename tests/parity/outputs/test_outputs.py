"""Weights and vectors of tokens over HTTP are those of sentence-transformers for the same folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.compile import compile_checkpoint
from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.e2e.process import Server, cosines
from tests.models import late
from tests.parity.families.matrix import REFERENCE
from tests.parity.families.rows import TEXTS

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)]

SCRIPT = Path(__file__).with_name("make_models.py")
MAXIMUM_DIFFERENCE = 1e-4  # of a weight
MINIMUM_COSINE = 0.9999  # of a token's vector

_LAYERS = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
_BERT = {"model_type": "bert", **_LAYERS, "max_position_embeddings": 48}
_DISTILBERT = {"model_type": "distilbert", "n_layers": 2, "n_heads": 4, "dim": 32, "hidden_dim": 48}
_ROBERTA = {"model_type": "roberta", **_LAYERS, "max_position_embeddings": 50, "type_vocab_size": 1}
_MODERNBERT = {"model_type": "modernbert", **_LAYERS, "max_position_embeddings": 48, "reference_compile": False}
_MAX = {"pooling_strategy": "max"}


def _sparse(config: dict[str, Any], tokenizer: str = "wordpiece", **pooling: Any) -> dict[str, Any]:
    name = "-".join([config["model_type"], *map(str, pooling.values())])
    return {"name": name, "kind": "sparse", "config": config, "tokenizer": tokenizer, "pooling": pooling or _MAX}


SPARSE = (
    # Sums of 48 tokens. With logits as large as the others have they are about 63, where float32 alone differs by 1e-4.
    {
        **_sparse({**_BERT, "hidden_act": "gelu_new"}, pooling_strategy="sum", activation_function="log1p_relu"),
        "logits": 0.1,
    },
    _sparse({**_DISTILBERT, "max_position_embeddings": 48}),
    _sparse(_ROBERTA, "bpe"),
    _sparse({**_ROBERTA, "model_type": "xlm-roberta"}, "unigram", activation_function="log1p_relu"),
    _sparse({"model_type": "mpnet", **_LAYERS, "max_position_embeddings": 50}),
    _sparse(_MODERNBERT, "bpe"),
)

LATE: tuple[dict[str, Any], ...] = (
    {
        "name": "late-bert",
        "config": _BERT,
        "tokenizer": "wordpiece",
        "reading": {"document_length": 30, "query_expansion": {"strategy": "fixed", "length": 12}},
        "prompts": {"query": "ask: ", "document": ""},
        "skiplist_tasks": ["document"],
    },
    {
        "name": "late-modernbert",
        "config": _MODERNBERT,
        "tokenizer": "bpe",
        "reading": {"query_length": 40, "query_expansion": {"strategy": "min", "length": 16, "attend": True}},
        "prompts": {},
        "skiplist_tasks": ["query", "document"],
    },
)
NAMED = (*(row["name"] for row in LATE), "pylate", "colbert")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All checkpoints, and what they should give."""
    root = tmp_path_factory.mktemp("outputs")
    rows = [*SPARSE, *({"kind": "late", **row} for row in LATE)]
    ours = [str(late.write(kind, root / kind)) for kind in ("pylate", "colbert")]
    (root / "plan.json").write_text(json.dumps({"rows": rows, "texts": TEXTS, "late_folders": ours}), "utf-8")
    found = REFERENCE.run(str(SCRIPT), str(root / "plan.json"), str(root), env={"HF_HUB_OFFLINE": "1"})
    assert found == {"version": "6.2.0"}
    return root


def served(folder: Path, name: str) -> Server:
    bundle = compile_checkpoint(str(folder / name), cache_dir=folder / "cache", say=lambda _: None)
    return Server(folder / f"{name}.server", [str(bundle), "--port", "0", "--long-input", "truncate"]).wait_ready()


@pytest.mark.parametrize("name", [row["name"] for row in SPARSE])
def test_sparse(folder: Path, name: str) -> None:
    expected = np.load(folder / f"{name}.npy")
    server = served(folder, name)
    try:
        replies = [server.post("/embed_sparse", {"inputs": [text]}).json()[0] for text in TEXTS]
        together = server.post("/embed_sparse", {"inputs": list(TEXTS)}).json()
    finally:
        server.stop()
    assert 0 < (expected > 0).mean() < 1
    for found in (replies, together):
        weights = np.zeros_like(expected)
        for row, one in zip(weights, found, strict=True):
            row[[weight["index"] for weight in one]] = [weight["value"] for weight in one]
        assert np.abs(weights - expected).max() <= MAXIMUM_DIFFERENCE


@pytest.mark.parametrize("name", NAMED)
def test_late(folder: Path, name: str) -> None:
    server = served(folder, name)
    try:
        for role in ("query", "document"):
            expected = list(np.load(folder / f"{name}-{role}.npz").values())
            reply = server.post("/v1/multi-vector", {"input": list(TEXTS), "input_type": role})
            found = [np.asarray(one["embeddings"]) for one in reply.json()["data"]]
            for text, one, other in zip(TEXTS, found, expected, strict=True):
                assert one.shape == other.shape, (role, text)
                assert cosines(one, other).min() >= MINIMUM_COSINE, (role, text)
    finally:
        server.stop()
