"""`check` notices what can go wrong with a bundle after it was published."""

from __future__ import annotations

import json
from math import nan
from pathlib import Path

import pytest

from models.verify import CheckReport, TextResult, check
from service.bundle import read_bundle, sha256_of
from service.errors import BundleError
from tests.models.conftest import Compile
from tests.models.tiny import Tiny


@pytest.fixture
def bundle(tmp_path: Path, compiled: Compile) -> Path:
    return compiled(Tiny().write(tmp_path / "tiny"))


def test_a_sound_bundle(bundle: Path) -> None:
    report = check(bundle)
    assert report.passed
    assert (report.model_id, report.precision, report.reference) == ("tiny", "fp32", "compile")
    assert len(report.texts) == 8
    assert report.files == len(read_bundle(bundle).files)
    assert max(one.tokens for one in report.texts) == read_bundle(bundle).max_seq_length
    assert report.max_abs_difference < 1e-6


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", "tokenizer.json", "golden.json"])
def test_a_changed_file_is_named(bundle: Path, name: str) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=f"{name} is corrupt"):
        check(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx.data").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx\.data cannot be read"):
        check(bundle)


def test_wrong_vectors_fail_the_check(bundle: Path) -> None:
    golden = json.loads((bundle / "golden.json").read_text("utf-8"))
    golden["vectors"] = golden["vectors"][::-1]
    _rewrite(bundle, golden)
    report = check(bundle)
    assert not report.passed
    assert report.worst_cosine < 0.9999


def test_vectors_of_another_size_are_refused(bundle: Path) -> None:
    golden = json.loads((bundle / "golden.json").read_text("utf-8"))
    golden["vectors"] = [vector[:-1] for vector in golden["vectors"]]
    _rewrite(bundle, golden)
    with pytest.raises(BundleError, match=r"golden vectors of shape \(8, 31\)"):
        check(bundle)


def _rewrite(bundle: Path, golden: object) -> None:
    """Changes golden.json and its hash, as someone who means it would."""
    (bundle / "golden.json").write_text(json.dumps(golden), "utf-8")
    described = json.loads((bundle / "bundle.json").read_text("utf-8"))
    described["files"]["golden.json"] = sha256_of(bundle / "golden.json")
    (bundle / "bundle.json").write_text(json.dumps(described), "utf-8")


@pytest.mark.parametrize("order", [(0.99999, nan), (nan, 0.99999)])
def test_what_is_no_number_fails_wherever_it_stands(order: tuple[float, float]) -> None:
    texts = tuple(TextResult("a", 3, one, 0.0, 1.0, 0.0) for one in order)
    assert not CheckReport("m", "fp32", "them", 1, texts).passed
