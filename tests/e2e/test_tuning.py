"""`embedserve tune`, and what a server makes of its figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.cli import main
from service.runtime.session import runtime_version
from service.tuner import Effort
from service.tuning import Machine, Measurement, Tuning, path_of, read_tuning, this_machine, write_tuning
from tests.conftest import MakeBundle, StartServer
from tests.e2e.process import Server, run_command
from tests.models.tiny import Tiny

MINE = Measurement(executors=3, intra_op_threads=2, max_batch_tokens=333, short=900.0, mixed=900.0)
OTHER = Measurement(executors=1, intra_op_threads=1, max_batch_tokens=444, short=500.0, mixed=500.0)


@pytest.fixture(scope="module")
def machine() -> Machine:
    return this_machine(runtime_version())


@pytest.fixture
def tuned(make_bundle: MakeBundle, machine: Machine) -> Path:
    """A bundle that has been measured here, with figures that cannot be taken for defaults."""
    folder = make_bundle()
    path_of(folder, machine).unlink(missing_ok=True)
    write_tuning(folder, Tuning(machine=machine, batch_overhead=8.0, measurements=[OTHER, MINE]))
    return folder


def batches(server: Server) -> dict[str, Any]:
    """How it says that it runs them."""
    (line,) = [one for one in server.logged() if one["message"] == "batches"]
    return {name: (line[name], line[f"{name}_from"]) for name in ("executors", "intra_op_threads", "max_batch_tokens")}


def test_a_server_takes_what_was_measured_here(tuned: Path, start_server: StartServer) -> None:
    server = start_server(model=tuned)
    server.assert_well()
    assert batches(server) == {
        "executors": (3, "tuned"),
        "intra_op_threads": (2, "tuned"),
        "max_batch_tokens": (333, "tuned"),
    }


def test_what_is_set_wins_wherever_it_is_set(tuned: Path, start_server: StartServer) -> None:
    server = start_server("--executors", "1", model=tuned)
    assert batches(server) == {
        "executors": (1, "set"),
        "intra_op_threads": (1, "tuned"),
        "max_batch_tokens": (444, "tuned"),
    }
    env = {"EMBEDSERVE_EXECUTORS": "5", "EMBEDSERVE_MAX_BATCH_TOKENS": "333"}
    server = start_server(model=tuned, env=env)
    server.assert_well()
    assert batches(server) == {
        "executors": (5, "set"),
        "intra_op_threads": (1, "default"),
        "max_batch_tokens": (333, "set"),
    }


@pytest.mark.parametrize("content", [b"", b"\xff", b'{"format": 1}', None])
def test_a_broken_file_is_said_and_not_used(
    tuned: Path, machine: Machine, start_server: StartServer, content: bytes | None
) -> None:
    path = path_of(tuned, machine)
    path.unlink()
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    server = start_server(model=tuned)
    server.assert_well()
    assert {source for _, source in batches(server).values()} == {"default"}
    (warning,) = [one for one in server.logged() if one["level"] == "warning"]
    assert str(path) in warning["message"]
    assert "embedserve tune" in warning["remedy"]


def test_figures_of_another_machine_are_not_used(
    make_bundle: MakeBundle, machine: Machine, start_server: StartServer
) -> None:
    folder = make_bundle()
    path_of(folder, machine).unlink(missing_ok=True)
    elsewhere = machine.model_copy(update={"onnxruntime": "0.1"})
    write_tuning(folder, Tuning(machine=elsewhere, batch_overhead=8.0, measurements=[MINE]))
    server = start_server(model=folder)
    assert {source for _, source in batches(server).values()} == {"default"}
    assert not [one for one in server.logged() if one["level"] == "warning"]


def test_tune_measures_every_combination_and_keeps_it(tmp_path: Path, machine: Machine) -> None:
    folder = tmp_path / "bundle"
    assert run_command("compile", Tiny().write(tmp_path / "tiny"), "--output", folder).returncode == 0
    done = run_command("tune", folder, "--quick")
    assert done.returncode == 0, done.stderr.decode()
    said = done.stderr.decode()
    assert said.count("chosen") == 1
    found = read_tuning(folder, machine)
    assert found is not None
    assert {one.max_batch_tokens for one in found.measurements} == {256, 512, 1024}
    assert {one.executors * one.intra_op_threads <= machine.cores for one in found.measurements} == {True}
    for one in found.measurements:
        assert f"{one.executors:9d}  {one.intra_op_threads:7d}  {one.max_batch_tokens:6d}" in said
    assert run_command("check", folder).returncode == 0, "the file is no part of what the bundle's hashes cover"


def test_what_cannot_be_kept_is_said_with_the_flags_to_give_instead(tmp_path: Path, machine: Machine) -> None:
    folder = tmp_path / "bundle"
    assert run_command("compile", Tiny().write(tmp_path / "tiny"), "--output", folder).returncode == 0
    path_of(folder, machine).mkdir()  # no file can take its place, whoever runs the tests
    done = run_command("tune", folder, "--quick")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "cannot be written" in said
    assert "--max-batch-tokens" in said.splitlines()[-1]
    assert [one.name for one in folder.iterdir() if one.name.startswith(".")] == []


def test_compile_can_tune_as_well(
    tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("service.tuner.USUAL", Effort(0.2, (64,), ()))
    folder = tmp_path / "bundle"
    checkpoint = Tiny().write(tmp_path / "tiny")
    assert main(["compile", str(checkpoint), "--output", str(folder), "--tune"]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    found = read_tuning(folder, machine)
    assert found is not None
    assert {one.max_batch_tokens for one in found.measurements} == {64}
    assert main(["check", str(folder)]) == 0
