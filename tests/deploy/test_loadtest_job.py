"""The chart's load as a Job: its arguments and variables, by the real locust, with the image's files and no others."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.chart.helm import Refused, only, render
from tests.conftest import StartServer
from tests.deploy.test_kserve import ROOT
from tests.e2e.process import Server, clean_environment
from tests.loadtest.test_locust import LOCUST

pytestmark = pytest.mark.heavy

IN_IMAGE = "/opt/loadtest"
SHORT = {"enabled": True, "seconds": 4, "users": 2}


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the Dockerfile copies into the stage `loadtest`."""
    folder = tmp_path_factory.mktemp("image")
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    [files] = re.findall(rf"^COPY (loadtest/.*?)\s+{IN_IMAGE}/loadtest/$", text, re.M)
    (folder / "loadtest").mkdir()
    for name in files.split():
        shutil.copy(ROOT / name, folder / "loadtest")
    return folder


def job(**values: Any) -> dict[str, Any]:
    """The one container of the Job."""
    own = {"loadtest": SHORT | values, "test": {"existingSecret": "keys", "key": "one"}}
    spec = only(render(own), "Job")["spec"]
    assert spec["backoffLimit"] == 0
    assert spec["activeDeadlineSeconds"] > own["loadtest"]["seconds"]
    [container] = spec["template"]["spec"]["containers"]
    found: dict[str, Any] = container
    return found


def run(
    container: Mapping[str, Any], image: Path, url: str, reports: Path, key: str
) -> subprocess.CompletedProcess[str]:
    """As the kubelet would, but for places and the address."""
    given = {one["name"]: one.get("value", key) for one in container["env"]}
    here = {IN_IMAGE: str(image), "/reports": str(reports), "http://emb-embedserve:80": url}
    arguments = container["args"]
    for there, place in here.items():
        arguments = [argument.replace(there, place) for argument in arguments]
    env = clean_environment({**given, "HOME": str(reports), "PYTHONPATH": str(image)})
    program = LOCUST.interpreter().with_name("locust")
    return subprocess.run(
        [program, *arguments], env=env, capture_output=True, text=True, timeout=120, cwd=reports, check=False
    )


@pytest.fixture
def closed(start_server: StartServer) -> Server:
    """One that wants a key."""
    return start_server(env={"EMBEDSERVE_API_KEYS": "right"})


def test_it_keeps_a_report_and_ends_well(closed: Server, image: Path, tmp_path: Path) -> None:
    container = job(failRatio=0, p95Ms=60000, minRps=0.1, report={"claimName": "reports"})
    done = run(container, image, closed.url, tmp_path, "right")
    assert done.returncode == 0, done.stdout + done.stderr
    [report] = tmp_path.glob("*.html")
    assert "openai query" in report.read_text("utf-8")


def test_a_threshold_that_is_missed_fails_it(closed: Server, image: Path, tmp_path: Path) -> None:
    done = run(job(minRps=1000000), image, closed.url, tmp_path, "right")
    assert done.returncode == 1
    assert "load: missed: " in done.stderr
    assert "are below 1e+06" in done.stderr
    done = run(job(), image, closed.url, tmp_path, "wrong")
    assert done.returncode == 1
    assert "fail ratio 100.00% is above 1.00%" in done.stderr


def test_a_load_that_would_be_refused_is_refused_before() -> None:
    with pytest.raises(Refused, match=r"test\.existingSecret"):
        render({"loadtest": {"enabled": True}, "auth": {"apiKeys": {"existingSecret": "keys"}}})


@pytest.mark.parametrize(
    "wrong", [{"shape": "flood"}, {"users": 0}, {"failRatio": 2}, {"p95Ms": 0}, {"minRPS": 1}, {"host": "emb"}]
)
def test_the_schema_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="loadtest"):
        render({"loadtest": wrong})
