"""What commands say of a device that there is, and of one that there is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service.device_name import DeviceName
from service.runtime.driver import read_driver
from service.runtime.preflight import gpu_name
from service.tuning import CHOICES
from tests.conftest import StartServer
from tests.e2e.process import run_command
from tests.gpu.device import hardware

pytestmark = pytest.mark.gpu


def test_check_names_the_device_and_measures_it(device: DeviceName, bundle: Path) -> None:
    done = run_command("check", "--device", str(device), bundle)
    assert done.returncode == 0, done.stderr.decode()
    *_, name, _, _, short, mixed = done.stdout.decode().splitlines()
    assert name.startswith(f"{device}, {hardware(device)}, ")
    for line, mix in ((short, "short"), (mixed, "mixed")):
        found, *figures = line.split()
        assert found == mix
        assert len(figures) == 4  # batches, bare, served, ratio
        assert all(float(one.replace(",", "")) > 0 for one in figures)


def test_auto_takes_what_the_bundle_is_compiled_for(
    device: DeviceName, bundle: Path, start_server: StartServer
) -> None:
    server = start_server("--device", "auto", model=bundle)
    (line,) = [one for one in server.logged() if one["message"] == "device"]
    assert line["device"] == str(DeviceName(device.kind))
    if device.kind != "cpu":
        assert line["because"] == f"the bundle is compiled for {device.kind}"
    assert server.metric("embedserve_executors", device=line["device"]) > 0
    server.assert_well()


@pytest.mark.parametrize("command", ["serve", "check"])
def test_of_a_device_that_is_not_there_those_are_named_that_are(gpu: DeviceName, bundle: Path, command: str) -> None:
    done = run_command(command, bundle, "--device", f"{gpu.kind}:99")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert f"the device {gpu.kind}:99 cannot be had" in said
    for number, one in enumerate(read_driver().gpus):
        assert f"{number}: {one.name}" in said
    assert "Traceback" not in said


def test_a_server_takes_what_was_measured_on_the_device(
    device: DeviceName, bundle: Path, tmp_path: Path, serve: StartServer
) -> None:
    folder = shutil.copytree(bundle, tmp_path / "tuned")
    done = run_command("tune", "--quick", "--device", str(device), folder)
    assert done.returncode == 0, done.stderr.decode()
    (kept,) = folder.glob("tuning-*.json")
    assert json.loads(kept.read_text("utf-8"))["machine"].get("gpu") == gpu_name(device)
    server = serve(model=folder)
    (line,) = [one for one in server.logged() if one["message"] == "batches"]
    assert {line[f"{name}_from"] for name in CHOICES} == {"tuned"}
    server.assert_well()
