"""The int8 graph: near the float32 one, the same in any batch, and never published where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models import verify
from models.compile import compile_checkpoint, find_cached
from models.verify import token_rows
from service import self_check
from service.bundle import MODEL_ONNX, read_bundle, read_golden, verify_files
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.types import Matrix
from tests.models import tiny
from tests.models.conftest import MINILM, Compile, tell
from tests.models.tiny import Tiny

SENTENCES = [
    "How do I change the password of my account?",
    "The treaty was signed in 1648 and ended thirty years of war.",
    "Die Katze schläft auf dem warmen Ofen.",
    "SELECT name FROM users WHERE id = 7 ORDER BY name;",
    "今日は天気がとても良いです。",
    "a",
    "word " * 180,
    "zq xk jv wp " * 30,
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.",
]


def unit(vectors: Matrix) -> Matrix:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def embed(folder: Path, texts: list[str]) -> tuple[Matrix, Matrix]:
    """Each text alone; and all of them in one padded batch."""
    bundle = read_bundle(folder)
    rows, encoder = token_rows(folder, bundle, texts), Encoder(folder, bundle, CPU)
    return unit(np.concatenate([encoder.run([row]) for row in rows])), unit(encoder.run(rows))


@pytest.fixture(scope="module")
def minilm_int8(user_cache: Path) -> Path:
    return compile_checkpoint(MINILM, cache_dir=user_cache, precision="int8", say=tell)


def test_the_vectors_are_near_those_of_float32_and_the_same_in_any_batch(minilm: Path, minilm_int8: Path) -> None:
    exact, _ = embed(minilm, SENTENCES)
    alone, batched = embed(minilm_int8, SENTENCES)
    cosines = (exact * alone).sum(axis=1)
    assert cosines.min() > 0.997
    assert cosines.max() < 0.99999, "nothing was rounded"
    assert (alone.astype(np.float64) * batched).sum(axis=1).min() >= verify.MINIMUM_BATCH_COSINE


def test_the_vector_does_not_depend_on_which_texts_are_beside_it(minilm_int8: Path) -> None:
    """One scale for all of a batch would change the vector by 1 to 3 in a hundred."""
    first, *others = SENTENCES
    with_each = np.stack([embed(minilm_int8, [first, other])[1][0] for other in others]).astype(np.float64)
    assert (with_each @ embed(minilm_int8, [first])[0][0]).min() >= verify.MINIMUM_BATCH_COSINE


def test_the_bundle_says_what_it_is_and_passes_its_check(minilm: Path, minilm_int8: Path) -> None:
    bundle = read_bundle(minilm_int8)
    verify_files(minilm_int8, bundle)
    assert bundle.precision == "int8"
    assert minilm_int8 != minilm
    assert verify.check(minilm_int8).passed
    sizes = [sum(path.stat().st_size for path in folder.iterdir()) for folder in (minilm_int8, minilm)]
    assert sizes[0] < 0.7 * sizes[1], "the weights take a quarter, the word vectors what they took"


def test_every_matrix_of_the_layers_is_8_bits(minilm_int8: Path) -> None:
    graph = onnx.load(str(minilm_int8 / MODEL_ONNX), load_external_data=False).graph
    kinds = [node.op_type for node in graph.node]
    assert kinds.count("QAttention") == 6
    assert kinds.count("MatMulIntegerToFloat") == 3 * 6
    assert not {"MatMul", "Attention"} & set(kinds)


def test_without_reference_vectors_int8_is_measured_against_float32(tmp_path: Path, compiled: Compile) -> None:
    source = Tiny().write(tmp_path / "tiny")
    exact, rounded = compiled(source), compiled(source, precision="int8")
    assert read_golden(rounded) == read_golden(exact)
    report = verify.check(rounded)
    assert report.passed
    assert report.worst_cosine < 0.99999


@pytest.mark.parametrize("activation", ["gelu_new", "relu"])
def test_hidden_activations(tmp_path: Path, compiled: Compile, activation: str) -> None:
    source = Tiny(config={"hidden_act": activation}).write(tmp_path / "tiny")
    exact, _ = embed(compiled(source), tiny.TEXTS)
    rounded, _ = embed(compiled(source, precision="int8"), tiny.TEXTS)
    assert (exact * rounded).sum(axis=1).min() > 0.99


def test_the_same_checkpoint_gives_the_same_graph(tmp_path: Path, compiled: Compile) -> None:
    source = Tiny().write(tmp_path / "tiny")
    first, second = (compiled(source, precision="int8", output=tmp_path / name) for name in ("one", "two"))
    assert read_bundle(first).files == read_bundle(second).files
    assert sorted(path.name for path in first.iterdir()) == sorted(["bundle.json", *read_bundle(first).files])


def test_it_is_found_in_the_cache_by_its_precision(tmp_path: Path, compiled: Compile) -> None:
    source = Tiny().write(tmp_path / "tiny")
    folder = compiled(source, precision="int8")
    assert find_cached(str(source), cache_dir=tmp_path / "cache", precision="int8") == folder
    assert find_cached(str(source), cache_dir=tmp_path / "cache") is None


def test_an_exported_graph_is_refused(tmp_path: Path, compiled: Compile) -> None:
    source = Tiny().write(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="int8 is made from weights"):
        compiled(source, precision="int8", route="onnx")
    assert list((tmp_path / "cache" / "bundles").glob("*")) == []


def test_a_graph_that_lost_too_much_is_not_published(
    tmp_path: Path, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Tiny().write(tmp_path / "tiny")
    monkeypatch.setitem(self_check.MINIMUM_COSINE, "int8", 0.9999999)
    with pytest.raises(CheckpointError, match="leave --precision out"):
        compiled(source, precision="int8")
