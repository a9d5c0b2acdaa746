"""What a server says about the device it runs on, and what it does where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.device_name import DeviceName
from service.runtime.preflight import obstacle
from tests.conftest import MakeBundle, StartServer
from tests.e2e.process import run_command

MISSING = obstacle(DeviceName("cuda"))
needs_no_gpu = pytest.mark.skipif(MISSING is None, reason="this machine has a GPU")


def test_one_line_says_which_device_and_why(start_server: StartServer) -> None:
    server = start_server("--device", "auto")
    lines = [one for one in server.logged() if one["message"] == "device"]
    assert [one["device"] for one in lines] == ["cpu"]
    if MISSING is not None:
        assert lines[0]["because"] == f"CUDA cannot be had: {MISSING.reason}"
    server.assert_well()


@needs_no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt"])
def test_a_device_that_cannot_be_had_is_no_server(bundle: Path, device: str, tmp_path: Path) -> None:
    """Neither for a bundle nor for what would have to be compiled, and nothing is compiled for it."""
    for model in (str(bundle), str(tmp_path / "nothing here")):
        done = run_command("serve", model, "--device", device, "--port", "0", "--cache-dir", str(tmp_path / "cache"))
        assert done.returncode == 1
        assert not (tmp_path / "cache" / "bundles").exists()
    assert b"cannot be had" in done.stderr
    assert b"pip" in done.stderr or b"driver" in done.stderr


def test_a_bundle_for_a_gpu_is_not_served_by_a_cpu(make_bundle: MakeBundle) -> None:
    folder = make_bundle(target="cuda", precision="fp16")
    done = run_command("serve", str(folder), "--device", "cpu", "--port", "0")
    assert done.returncode == 1
    assert b"compiled for cuda" in done.stderr
    assert b"--target cpu" in done.stderr
    assert run_command("check", str(folder)).returncode == 0


def test_what_is_no_device_is_refused_by_its_setting(bundle: Path) -> None:
    done = run_command("serve", str(bundle), "--port", "0", env={"EMBEDSERVE_DEVICE": "gpu"})
    assert done.returncode == 1
    assert b"EMBEDSERVE_DEVICE" in done.stderr
