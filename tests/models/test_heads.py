"""From token vectors to the sentence vector, against an independent reference in float64, one text at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.modules import MODES
from service.bundle import read_bundle
from service.encoder import Encoder
from service.runtime.providers import CPU
from service.types import TwoPartRow
from tests.models import reference, tiny
from tests.models.conftest import Compile
from tests.models.reference import Wide
from tests.models.test_native import embed
from tests.models.tiny import HIDDEN, Tiny

FLAGS = {
    "cls": "cls_token",
    "max": "max_tokens",
    "mean": "mean_tokens",
    "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}


def legacy(*modes: str) -> dict[str, Any]:
    """The pooling's file as sentence-transformers wrote it until 5."""
    flags = {f"pooling_mode_{flag}": mode in modes for mode, flag in FLAGS.items()}
    return {"word_embedding_dimension": HIDDEN, **flags, "include_prompt": True}


def current(*modes: str, include_prompt: bool = True) -> dict[str, Any]:
    """As 6 writes it."""
    return {
        "embedding_dimension": HIDDEN,
        "pooling_mode": modes[0] if len(modes) == 1 else list(modes),
        "include_prompt": include_prompt,
    }


def pooled(row: Any, *modes: str, prompt: int = 0) -> Wide:
    hidden = reference.hidden_states(list(row), tiny.weights(), tiny.config())
    return np.concatenate([reference.pool(hidden, mode, prompt) for mode in modes])


def assert_like(folder: Path, wanted: Callable[[Any], Wide]) -> None:
    """Every text, in one padded batch."""
    rows, vectors = embed(folder)
    np.testing.assert_allclose(vectors, np.stack([wanted(row) for row in rows]), atol=2e-5, rtol=1e-5)
    assert len({len(row) for row in rows}) > 3
    assert max(map(len, rows)) == read_bundle(folder).max_seq_length


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("written", [legacy, current])
@pytest.mark.parametrize("normalize", [True, False])
def test_pooling(
    tmp_path: Path, compiled: Compile, mode: str, written: Callable[..., dict[str, Any]], normalize: bool
) -> None:
    folder = compiled(Tiny(pooling=written(mode), normalize=normalize).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: reference.normalize(pooled(row, mode)) if normalize else pooled(row, mode))
    bundle = read_bundle(folder)
    assert (bundle.normalized, bundle.pooling, bundle.inputs) == (normalize, mode, ("input_ids", "attention_mask"))
    assert bundle.mean_of_tokens is (mode == "mean")


def test_several_poolings_in_the_order_of_the_file(tmp_path: Path, compiled: Compile) -> None:
    modes = ["lasttoken", "mean", "cls", "weightedmean", "max", "mean_sqrt_len_tokens"]
    folder = compiled(Tiny(pooling=current(*modes), normalize=False).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: pooled(row, *modes))
    bundle = read_bundle(folder)
    assert (bundle.dimensions, bundle.pooling) == (6 * HIDDEN, "+".join(modes))
    assert not bundle.mean_of_tokens


def test_several_flags_in_the_order_of_sentence_transformers(tmp_path: Path, compiled: Compile) -> None:
    folder = compiled(Tiny(pooling=legacy("lasttoken", "mean", "cls"), normalize=False).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: pooled(row, "cls", "mean", "lasttoken"))


@pytest.mark.parametrize("mode", MODES)
def test_a_prompt_that_is_not_pooled(tmp_path: Path, compiled: Compile, mode: str) -> None:
    """Rows of different prompts, and without any, in one batch."""
    described = current(mode, include_prompt=False)
    folder = compiled(Tiny(pooling=described, normalize=False).write(tmp_path / "tiny"))
    bundle = read_bundle(folder)
    assert bundle.inputs == ("input_ids", "attention_mask", "pooling_mask")
    assert not bundle.mean_of_tokens
    plain = [2, 10, 11, 12, 13, 14, 15, 3]
    rows = [TwoPartRow(plain, 4), TwoPartRow([*plain, 5, 6, 7, 3], 7), plain[:5], TwoPartRow(plain[2:], 1)]
    wanted = [pooled(row, mode, prompt=getattr(row, "split", 0)) for row in rows]
    np.testing.assert_allclose(Encoder(folder, bundle, CPU).run(rows), np.stack(wanted), atol=2e-5)


@pytest.mark.parametrize("activation", reference.DENSE_ACTIVATIONS)
def test_activations(tmp_path: Path, compiled: Compile, activation: str) -> None:
    described = tiny.dense_config(activation)
    weights = {name: 4 * value for name, value in tiny.dense_weights(described).items()}  # into every bend
    heads = [("Dense", described, weights)]
    folder = compiled(Tiny(heads=heads, normalize=False).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: reference.dense(pooled(row, "mean"), weights, activation))
    assert read_bundle(folder).dimensions == described["out_features"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("out", [20, HIDDEN])
def test_residual(tmp_path: Path, compiled: Compile, bias: bool, out: int) -> None:
    described = tiny.dense_config("activation.Tanh", out, bias=bias) | {"use_residual": True}
    weights = tiny.dense_weights(described)
    assert ("residual.weight" in weights) is (out != HIDDEN)
    folder = compiled(Tiny(dense=described, normalize=False).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: reference.dense(pooled(row, "mean"), weights, "activation.Tanh", residual=True))


def test_a_chain_of_modules(tmp_path: Path, compiled: Compile) -> None:
    """Normalised in the middle and not at the end; dropout does nothing."""
    first = tiny.dense_config("linear.Identity", 48, bias=False) | {"in_features": 2 * HIDDEN}
    second = tiny.dense_config("activation.GELU", 16) | {"in_features": 48}
    weights = [tiny.dense_weights(first), tiny.dense_weights(second, seed=9)]
    norm = tiny.layer_norm_weights(48)
    heads: Any = [
        ("Normalize", {}, {}),
        ("Dense", first, weights[0]),
        ("Dropout", {"dropout": 0.5}, {}),
        ("LayerNorm", {"dimension": 48}, norm),
        ("Dense", second, weights[1]),
    ]
    folder = compiled(Tiny(pooling=current("cls", "mean"), heads=heads, normalize=False).write(tmp_path / "tiny"))

    def wanted(row: Any) -> Wide:
        x = reference.normalize(pooled(row, "cls", "mean"))
        x = reference.layer_norm(reference.dense(x, weights[0], "linear.Identity"), norm)
        return reference.dense(x, weights[1], "activation.GELU")

    assert_like(folder, wanted)
    bundle = read_bundle(folder)
    assert (bundle.dimensions, bundle.normalized, bundle.mean_of_tokens) == (16, False, False)


@pytest.mark.parametrize("normalize", [True, False])
def test_truncate_dim_cuts_and_does_not_normalise_again(tmp_path: Path, compiled: Compile, normalize: bool) -> None:
    saved = {"truncate_dim": 12, "matryoshka_dimensions": [8, 16, 32]}
    folder = compiled(Tiny(saved=saved, normalize=normalize).write(tmp_path / "tiny"))
    finish = reference.normalize if normalize else lambda x: x
    assert_like(folder, lambda row: finish(pooled(row, "mean"))[:12])
    bundle = read_bundle(folder)
    assert (bundle.dimensions, bundle.normalized, bundle.mean_of_tokens) == (12, False, False)
    assert bundle.matryoshka_dimensions == (8,)


def test_a_truncate_dim_beyond_the_width_cuts_nothing(tmp_path: Path, compiled: Compile) -> None:
    folder = compiled(Tiny(saved={"truncate_dim": 64}).write(tmp_path / "tiny"))
    assert_like(folder, lambda row: reference.normalize(pooled(row, "mean")))
    bundle = read_bundle(folder)
    assert (bundle.dimensions, bundle.normalized, bundle.mean_of_tokens) == (HIDDEN, True, True)


@pytest.fixture(scope="module")
def all_modes(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    """Every pooling side by side."""
    from models.compile import compile_checkpoint

    folder = tmp_path_factory.mktemp("heads")
    source = Tiny(pooling=current(*MODES, include_prompt=False), normalize=False).write(folder / "tiny")
    bundle = compile_checkpoint(str(source), cache_dir=folder / "cache", say=lambda _: None)
    return Encoder(bundle, read_bundle(bundle), CPU)


ids = st.lists(st.integers(0, len(tiny.VOCABULARY) - 1), min_size=2, max_size=24)
split_rows = st.builds(lambda row, split: TwoPartRow(row, min(split, len(row) - 1)), ids, st.integers(0, 24))


@settings(max_examples=60)
@given(batch=st.lists(st.one_of(ids, split_rows), min_size=1, max_size=8))
def test_padding_never_leaks(all_modes: Encoder, batch: list[Any]) -> None:
    """In each pooling a row alone is the row in any batch."""
    alone = np.concatenate([all_modes.run([row]) for row in batch])
    np.testing.assert_allclose(all_modes.run(batch), alone, atol=2e-5)
