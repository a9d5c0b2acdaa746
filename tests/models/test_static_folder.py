"""Folders of static embeddings: what counts as a token, whose rules hold, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tokenizers import models, pre_tokenizers, processors

from models.compile import compile_checkpoint
from models.verify import token_rows
from models.weights import Array
from service.bundle import read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from tests.models.tiny import change_json, write_json

WORDS = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "the": 3, "mill": 4, "river": 5}
ROWS = np.random.default_rng(3).normal(0, 1, (len(WORDS), 4)).astype(np.float32)


def write(folder: Path, tensors: dict[str, NDArray[Any]], *kinds: str, config: dict[str, Any] | None = None) -> Path:
    """`kinds` are the modules of a modules.json; without any there is none."""
    folder.mkdir()
    own = tokenizers.Tokenizer(models.WordLevel(WORDS, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    own.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    own.enable_truncation(3)
    own.save(str(folder / "tokenizer.json"))
    save_file(tensors, folder / "model.safetensors")
    if config is not None:
        write_json(folder / "config.json", config)
    if kinds:
        listed = [
            {"idx": i, "name": str(i), "path": "" if i == 0 else f"{i}_{kind}", "type": f"sentence_transformers.{kind}"}
            for i, kind in enumerate(kinds)
        ]
        write_json(folder / "modules.json", listed)
    return folder


def embed(folder: Path, *texts: str) -> Array:
    bundle = compile_checkpoint(str(folder), cache_dir=folder.parent / "cache", say=print)
    described = read_bundle(bundle)
    encoder = Encoder(bundle, described, CPU)
    return np.concatenate([encoder.run([row]) for row in token_rows(bundle, described, texts)])


def test_sentence_transformers_gives_unknown_tokens_their_row(tmp_path: Path) -> None:
    folder = write(tmp_path / "st", {"embedding.weight": ROWS}, "StaticEmbedding")
    found = embed(folder, "the mill", "the nothing", "the mill river the", "")
    expected = [ROWS[[3, 4]].mean(0), ROWS[[3, 0]].mean(0), ROWS[[3, 4, 5, 3]].mean(0), 0 * ROWS[0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_model2vec_leaves_them_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "m2v", {"embeddings": ROWS}, config={"normalize": True})
    found = embed(folder, "the nothing", "nothing", "the mill")
    mean = ROWS[[3, 4]].mean(0)
    expected = [ROWS[3] / np.linalg.norm(ROWS[3]), 0 * mean, mean / np.linalg.norm(mean)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rows_that_tokens_share_and_weights_of_tokens(tmp_path: Path) -> None:
    tensors: dict[str, NDArray[Any]] = {
        "embeddings": (ROWS[:3] * 100).astype(np.int8),
        "mapping": np.array([0, 1, 1, 2, 2, 1], np.int32),
        "weights": np.array([1, 1, 1, 0.5, 2, 1], np.float64),
    }
    found = embed(write(tmp_path / "m2v", tensors, config={}), "the mill")
    np.testing.assert_allclose(found[0], tensors["embeddings"][2] * 1.25, atol=1e-5)


def test_prompts_and_normalisation_of_a_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "st", {"embedding.weight": ROWS}, "StaticEmbedding", "Normalize")
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "the "}, "truncate_dim": 3})
    bundle = read_bundle(compile_checkpoint(str(folder), cache_dir=tmp_path / "cache", say=print))
    assert (bundle.prompts, bundle.dimensions, bundle.static, bundle.words) == ({"query": "the "}, 3, True, None)
    assert np.linalg.norm(embed(folder, "mill")) < 1  # cut after it was normalised, as sentence-transformers does


@pytest.mark.parametrize(
    ("tensors", "kinds", "config", "reason"),
    [
        ({"embedding.weight": ROWS[:5]}, ["StaticEmbedding"], None, "'river' has id 5, the embedding matrix has 5"),
        ({"embedding.weight": ROWS[0]}, ["StaticEmbedding"], None, "no matrix embedding.weight"),
        ({"other": ROWS}, ["StaticEmbedding"], None, "no matrix embeddings, but nothing"),
        ({"embeddings": ROWS * np.float32(np.inf)}, [], None, "not finite"),
        ({"embeddings": ROWS, "mapping": np.arange(1, 7)}, [], None, "names rows beyond the 6 there are"),
        ({"embeddings": ROWS}, ["StaticEmbedding"], {"normalize": True}, "modules.json the opposite"),
        ({"embeddings": ROWS}, ["StaticEmbedding", "Pooling"], None, "module Pooling is not understood"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, tensors: dict[str, Array], kinds: list[str], config: dict[str, Any] | None, reason: str
) -> None:
    with pytest.raises(CheckpointError) as raised:
        embed(write(tmp_path / "bad", tensors, *kinds, config=config), "the")
    assert reason in raised.value.message


def test_int8_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m2v", {"embeddings": ROWS}, config={})
    with pytest.raises(CheckpointError, match="no matrix to multiply in int8"):
        compile_checkpoint(str(folder), cache_dir=tmp_path / "cache", say=print, precision="int8")
    change_json(folder / "config.json", normalize=False)
    assert embed(folder, "the").shape == (1, 4)


def test_an_unknown_token_beyond_the_rows_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "m2v", {"embeddings": ROWS})
    unigram = {"type": "Unigram", "vocab": [[word, 0.0] for word in WORDS], "unk_id": len(WORDS)}
    change_json(folder / "tokenizer.json", model=unigram)
    with pytest.raises(CheckpointError, match="unk_id is 6, there are 6 rows"):
        embed(folder, "the mill")
