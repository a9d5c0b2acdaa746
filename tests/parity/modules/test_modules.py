"""Vectors of every variant are those of sentence-transformers for the same folder: in length as in direction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.compile import compile_checkpoint
from service.bulk import BulkJob, embed_file
from service.settings import load_settings
from tests.clients.conftest import INSTALL_AND_RUN_SECONDS
from tests.e2e.process import Vectors, cosines
from tests.parity.families.matrix import REFERENCE
from tests.parity.modules.variants import TEXTS, Variant, variants

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(INSTALL_AND_RUN_SECONDS)]

VARIANTS = tuple(variants())
SAVED_AGAIN = VARIANTS[::4]  # as today's version writes them
MINIMUM_COSINE = 0.9999
MAXIMUM_DIFFERENCE = 1e-4  # of any number, to the vector's length
SCRIPT = Path(__file__).with_name("encode_folders.py")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every variant's folder, what the reference wrote of it, and the reference's vectors."""
    root = tmp_path_factory.mktemp("modules")
    plan = {
        str(one.write(root)): {
            "prompt_names": one.prompt_names,
            "save": str(root / f"{one.name}-saved") if one in SAVED_AGAIN else None,
        }
        for one in VARIANTS
    }
    (root / "plan.json").write_text(json.dumps({"texts": TEXTS, "folders": plan}), "utf-8")
    found = REFERENCE.run(str(SCRIPT), str(root / "plan.json"), env={"HF_HUB_OFFLINE": "1"})
    assert found == {"version": "6.2.0"}
    return root


def embedded(folder: Path, prompt_name: str | None) -> Vectors:
    """TEXTS through the whole path of a request, as a dialect that follows the model."""
    bundle = compile_checkpoint(str(folder), cache_dir=folder.parent / "cache", say=lambda _: None)
    lines, output = folder.with_suffix(".jsonl"), folder.with_suffix(".npy")
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), "utf-8")
    settings = load_settings({"model": str(bundle), "long_input": "truncate"})
    embed_file(settings, bundle, BulkJob(lines, output, "text", prompt_name))
    vectors: Vectors = np.load(output)
    return vectors


def assert_same(found: Vectors, expected: Vectors) -> None:
    assert found.shape == expected.shape
    assert cosines(found, expected).min() >= MINIMUM_COSINE
    difference = np.abs(found - expected).max(axis=1) / np.linalg.norm(expected, axis=1)
    assert difference.max() <= MAXIMUM_DIFFERENCE


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda one: one.name)
def test_vectors_are_those_of_sentence_transformers(variant: Variant, folders: Path) -> None:
    for name in variant.prompt_names:
        expected = np.load(folders / f"{variant.name}-{name or 'default'}.npy")
        assert_same(embedded(folders / variant.name, name), expected)


@pytest.mark.parametrize("variant", SAVED_AGAIN, ids=lambda one: one.name)
def test_files_of_todays_version_give_the_same(variant: Variant, folders: Path) -> None:
    for name in variant.prompt_names:
        expected = np.load(folders / f"{variant.name}-{name or 'default'}.npy")
        assert_same(embedded(folders / f"{variant.name}-saved", name), expected)
