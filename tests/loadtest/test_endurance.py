"""A minute of everyone a server may meet: no wrong answer, and nothing that grows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from loadtest.figures import read_json
from tests.clients.environments import Python
from tests.e2e.process import clean_environment

LOCUST = Python("locust", ("locust>=2.32",))
# MB in the half minute that counts, some 400 requests, while words and shapes are still met for the first time. What a
# request leaves behind in kilobytes is for `make soak` to find.
GROWTH = 10.0
SECONDS, WARM_UP = 70, 40

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(300)]


def test_a_minute_of_everyone(bundle: Path, tmp_path: Path) -> None:
    report, plot = tmp_path / "soak.json", tmp_path / "soak.svg"
    command = [
        *(sys.executable, "-m", "loadtest.endurance", "--model", str(bundle)),
        *("--seconds", str(SECONDS), "--warm-up", str(WARM_UP)),
        *("--max-slope", str(GROWTH * 3600 / (SECONDS - WARM_UP))),
        *("--json", str(report), "--svg", str(plot), "--html", str(tmp_path / "report.html")),
        *("--locust", str(LOCUST.interpreter().with_name("locust"))),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=240, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    figures, details = read_json(report)
    assert {one.topic for one in figures} == {"memory", "mapped files", "descriptors", "threads"}
    assert all(one.met is not False for one in figures)
    assert len(details["samples"]) >= SECONDS / 2
    assert "descriptors" in plot.read_text("utf-8")
    requests = (tmp_path / "report.html").read_text("utf-8")
    for name in ("openai query", "vertex query", "gemini query", "cohere query", "tei query", "kserve query"):
        assert name in requests
