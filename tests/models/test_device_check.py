"""`embedserve check --device`: on the CPU, where the same code runs; and its reasons where there is no GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models import device_check
from models.verify import MINIMUM_BATCH_COSINE, MINIMUM_BATCH_COSINE_FP16, check
from service.bundle import MODEL_ONNX
from service.cli import main
from service.device_name import DeviceName
from service.errors import StartupError
from service.runtime.preflight import obstacle
from service.runtime.providers import CPU
from tests.models.conftest import Compile
from tests.models.tiny import Tiny

needs_no_gpu = pytest.mark.skipif(obstacle(DeviceName("cuda")) is None, reason="this machine has a GPU")


@pytest.fixture
def bundle(tmp_path: Path, compiled: Compile) -> Path:
    return compiled(Tiny().write(tmp_path / "tiny"), target="cuda", precision="fp16")


def test_any_bundle_can_be_looked_at_on_a_cpu(bundle: Path) -> None:
    found = device_check.run(bundle, "cpu", seconds=0.05)
    assert found.report.passed
    assert found.device.startswith("cpu, ")
    assert [one.mix for one in found.speeds] == ["short", "mixed"]
    assert all(one.bare > 0 and one.served > 0 and one.batches > 0 for one in found.speeds)
    table = device_check.render(found)
    assert "bare session" in table
    assert len(table.splitlines()) == 5


def test_the_command_prints_parity_and_the_table(
    bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.device_check._SECONDS", 0.05)
    assert main(["check", "--device", "cpu", str(bundle)]) == 0
    said = capsys.readouterr().out
    assert "\npassed: " in said
    assert "tokens per second" in said


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:3", "tensorrt"])
def test_a_device_that_is_not_there_is_the_reason(
    bundle: Path, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--device", device, str(bundle)]) == 1
    assert "cannot be had" in capsys.readouterr().err


def test_what_is_no_device_is_refused(bundle: Path) -> None:
    with pytest.raises(StartupError, match="is not cpu, cuda"):
        device_check.run(bundle, "gpu")


def test_what_is_rounded_to_float16_may_differ_by_batch_and_float32_may_not(tmp_path: Path, compiled: Compile) -> None:
    """TensorRT's graphs are float32 until it builds its engines."""
    checkpoint, bound = Tiny().write(tmp_path / "tiny"), replace(CPU, bound_to=DeviceName("cpu"))
    half, engine = (compiled(checkpoint, target=target, precision="fp16") for target in ("cuda", "tensorrt"))
    wide = compiled(checkpoint, target="cuda", precision="fp32")
    for report in (check(half), check(half, execution=bound), check(engine, execution=bound)):
        assert report.minimum_batch_cosine == MINIMUM_BATCH_COSINE_FP16
    assert check(engine, engine / MODEL_ONNX).minimum_batch_cosine == MINIMUM_BATCH_COSINE_FP16
    for report in (check(engine), check(wide), check(wide, execution=bound)):
        assert report.minimum_batch_cosine == MINIMUM_BATCH_COSINE
