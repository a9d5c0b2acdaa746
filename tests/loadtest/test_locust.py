"""Every shape of the locust scenarios, against the real server: a report, and not one failure."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from loadtest.shapes import SHAPES
from tests.clients.environments import Python
from tests.conftest import StartServer
from tests.e2e.process import Server, clean_environment, wait_until
from tests.rolling.proxies import free_port

LOCUST = Python("locust", ("locust>=2.32",))

pytestmark = [pytest.mark.heavy, pytest.mark.long, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def locust() -> str:
    """The program, in an environment of its own."""
    return str(LOCUST.interpreter().with_name("locust"))


def _load(url: str, report: Path, locust: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "loadtest.load",
        "--host",
        url,
        "--html",
        str(report),
        "--locust",
        locust,
        *options,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, env=clean_environment(), check=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_ends_by_itself_with_a_report_and_without_failures(
    shape: str, locust: str, server: Server, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    before = server.metric("embedserve_requests_total", status="200")
    options = ["--shape", shape, "--seconds", "8", "--users", "8", "--fail-ratio", "0"]
    done = _load(f"{server.url}/", report, locust, *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "openai query" in report.read_text("utf-8")
    assert server.metric("embedserve_requests_total", status="200") > before


def test_every_threshold_that_is_missed_is_said_and_is_the_exit_status(
    locust: str, server: Server, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    wishes = ["--fail-ratio", "0", "--p95-ms", "0.001", "--min-rps", "1000000"]
    done = _load(server.url, report, locust, "--seconds", "4", "--users", "2", *wishes)
    assert done.returncode == 1
    missed = [line for line in done.stderr.splitlines() if line.startswith("load: missed: ")]
    assert len(missed) == 2
    assert missed[0].endswith("is above 0.001 ms")
    assert missed[1].endswith("requests/s are below 1e+06")
    assert report.exists()


def test_a_server_that_hangs_misses_every_threshold(locust: str, launch: StartServer, tmp_path: Path) -> None:
    """What it never answers is in flight when the load ends, and most of what it did answer was in time."""
    hanging = launch()
    wishes = ["--seconds", "10", "--users", "8", "--p95-ms", "20000", "--min-rps", "1e6"]
    with ThreadPoolExecutor(1) as pool:
        load = pool.submit(_load, hanging.url, tmp_path / "report.html", locust, *wishes)
        wait_until(lambda: hanging.metric("embedserve_requests_total", status="200") >= 20, "some answers")
        hanging.signal(signal.SIGSTOP)
        try:
            done = load.result()
        finally:
            hanging.signal(signal.SIGCONT)
    missed = [line for line in done.stderr.splitlines() if line.startswith("load: missed: ")]
    assert (done.returncode, len(missed)) == (1, 3), done.stderr
    rate = float(missed[2].removeprefix("load: missed: ").split()[0])
    assert rate <= hanging.metric("embedserve_requests_total", status="200") / 10 + 0.1  # of all ten seconds


def test_failures_are_the_exit_status(locust: str, server: Server, tmp_path: Path) -> None:
    done = _load(f"{server.url}/nowhere", tmp_path / "report.html", locust, "--seconds", "4", "--users", "2")
    assert done.returncode == 1
    assert "load: missed: fail ratio 100.00% is above 1.00% of the requests" in done.stderr


def test_without_locust_it_is_said_how_to_get_it(server: Server, tmp_path: Path) -> None:
    done = _load(server.url, tmp_path / "report.html", str(tmp_path / "no-locust"))
    assert done.returncode == 1
    assert "make load" in done.stderr


def test_nobody_there_is_said(locust: str, tmp_path: Path) -> None:
    done = _load(f"http://127.0.0.1:{free_port()}", tmp_path / "report.html", locust, "--seconds", "2", "--users", "1")
    assert done.returncode == 1
    assert "load: missed: fail ratio 100.00%" in done.stderr
    assert "Connection refused" in done.stdout + done.stderr
