"""Bundles for TensorRT: the same vectors from operators of ONNX alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from models.verify import check, token_rows
from service.bundle import MODEL_ONNX, read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from tests.models.conftest import Compile
from tests.models.tiny import HIDDEN, TEXTS, Tiny

DENSE = {
    "in_features": HIDDEN,
    "out_features": 20,
    "bias": True,
    "activation_function": "torch.nn.modules.activation.GELU",
}


def domains(folder: Path) -> set[str]:
    model = onnx.load(folder / MODEL_ONNX)
    return {node.domain for node in model.graph.node} | {one.domain for one in model.opset_import}


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
def test_vectors_are_those_of_the_fused_operators(tmp_path: Path, compiled: Compile, activation: str) -> None:
    checkpoint = Tiny(config={"hidden_act": activation}, dense=DENSE).write(tmp_path / "tiny")
    fused, plain = compiled(checkpoint), compiled(checkpoint, target="tensorrt", precision="fp32")
    assert read_bundle(plain).target == "tensorrt"
    assert domains(plain) == {""}
    assert "com.microsoft" in domains(fused)
    rows = token_rows(fused, read_bundle(fused), TEXTS)
    expected, found = (Encoder(one, read_bundle(one), CPU).run(rows) for one in (fused, plain))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    alone = np.concatenate([Encoder(plain, read_bundle(plain), CPU).run([row]) for row in rows])
    np.testing.assert_allclose(alone, expected, atol=1e-5)


def test_float16_is_left_to_the_engine_and_checked_all_the_same(
    tmp_path: Path, compiled: Compile, said: list[str]
) -> None:
    found = compiled(Tiny().write(tmp_path / "tiny"), target="tensorrt", precision="fp16")
    assert read_bundle(found).precision == "fp16"
    assert {one.data_type for one in onnx.load(found / MODEL_ONNX).graph.initializer} == {1, 7}
    assert "rounding as tensorrt does" in said
    assert check(found).passed


def test_what_cannot_be_written_out_is_refused(
    tmp_path: Path, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.families.bert._LONG", 8)
    with pytest.raises(CheckpointError, match="take --target cuda"):
        compiled(Tiny().write(tmp_path / "tiny"), target="tensorrt", precision="fp32")
