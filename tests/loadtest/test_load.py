"""What locust is told, and what is left when it is not there or does not come to its end: a program in its place."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import MakeBundle
from tests.e2e.process import clean_environment, wait_until

REPORTING = """#!{python}
import json, os, pathlib
told = {{name: value for name, value in os.environ.items() if name.startswith("EMBEDSERVE_")}}
pathlib.Path({path!r}).write_text(json.dumps(told))
"""
ENDLESS = """#!/bin/sh
touch {path}
exec sleep 100
"""


def _program(folder: Path, content: str) -> tuple[Path, Path]:
    """The program, and the file that it writes."""
    program, path = folder / "locust", folder / "told"
    program.write_text(content.format(python=sys.executable, path=str(path)), "utf-8")
    program.chmod(0o755)
    return program, path


def _start(module: str, folder: Path, *options: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", f"loadtest.{module}", "--html", folder / "report.html", *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(list(map(str, command)), stdout=pipe, stderr=pipe, text=True, env=clean_environment())


def test_users_know_the_model_that_is_served_for_them(make_bundle: MakeBundle, tmp_path: Path) -> None:
    program, told = _program(tmp_path, REPORTING)
    bundle = make_bundle(model_id="someone/something")
    process = _start("load", tmp_path, "--locust", program, "--model", bundle, "--users", "3", "--min-rps", "7")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    found = json.loads(told.read_text("utf-8"))
    assert found["EMBEDSERVE_LOAD_MODEL"] == "something"
    assert found["EMBEDSERVE_BENCH_DIMENSIONS"] == "384"
    assert found["EMBEDSERVE_LOAD_USERS"] == "3"
    assert found["EMBEDSERVE_LOAD_MIN_RPS"] == "7.0"
    assert "Report:" not in output  # there is none


def test_users_of_another_server_are_told_of_no_model(tmp_path: Path) -> None:
    program, told = _program(tmp_path, REPORTING)
    process = _start("load", tmp_path, "--locust", program, "--host", "http://127.0.0.1:9")
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert "EMBEDSERVE_LOAD_MODEL" not in json.loads(told.read_text("utf-8"))


def test_a_soak_that_is_interrupted_says_nothing_of_growth(bundle: Path, tmp_path: Path) -> None:
    program, begun = _program(tmp_path, ENDLESS)
    options = ("--json", tmp_path / "soak.json", "--seconds", "60", "--warm-up", "1")
    process = _start("endurance", tmp_path, "--locust", program, "--model", bundle, *options)
    try:
        wait_until(begun.exists, "locust")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert not output
    assert len(errors.splitlines()) == 1  # how many users there are


@pytest.mark.parametrize("module", ["load", "endurance"])
def test_without_locust_no_server_is_started(module: str, tmp_path: Path) -> None:
    process = _start(module, tmp_path, "--locust", tmp_path / "none")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "/none; `make load` installs it" in errors
    assert len(errors.splitlines()) == 1


def test_a_soak_that_is_all_warm_up_is_refused_at_once(tmp_path: Path) -> None:
    program, begun = _program(tmp_path, ENDLESS)
    process = _start("endurance", tmp_path, "--locust", program, "--seconds", "60", "--warm-up", "50")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == "soak: 60 s of load are too few behind 50 s that do not count\n"
    assert not begun.exists()
