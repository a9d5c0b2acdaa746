"""Servers that a benchmark starts: they are gone whatever happens, and say why they do not start."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from types import FrameType

import pytest

from loadtest import server, startup

STUBBORN = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"]


def test_a_server_that_does_not_leave_is_killed_when_the_benchmark_is_interrupted() -> None:
    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    process = subprocess.Popen(STUBBORN, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            server.stop(process, 30)
        assert process.poll() == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGALRM, before)
        process.kill()
        process.communicate()


def test_imports_of_a_server_that_does_not_start_are_no_figures(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the server did not start"):
        startup._imports(tmp_path / "nothing")


def test_imports_are_told_by_package(bundle: Path) -> None:
    found = startup._imports(bundle)
    assert found["service"] > 0
    assert found["fastapi"] > 0
