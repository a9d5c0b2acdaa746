"""The image of the load: the chart's Job, by podman, against a real server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from deploy.image.build import build
from tests.chart.helm import only, render
from tests.e2e.process import Server
from tests.image.containers import CONFINED, LIMITS, podman

pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

TAG = "localhost/embedserve:test-loadtest"


@pytest.fixture(scope="module")
def loadtest(base: str) -> str:
    build(TAG, "loadtest")
    return TAG


def run(image: str, values: dict[str, Any], url: str, reports: Path) -> tuple[int, str]:
    """Exit status and what it said, of the rendered container in the network of this machine."""
    own = {"enabled": True, "seconds": 4, "users": 2, "report": {"claimName": "reports"}, "host": url, **values}
    [container] = only(render({"loadtest": own}), "Job")["spec"]["template"]["spec"]["containers"]
    variables: Sequence[str] = [word for one in container["env"] for word in ("--env", f"{one['name']}={one['value']}")]
    places = ["--network", "host", "--volume", f"{reports}:/reports"]
    confined = [*LIMITS, *CONFINED, "--user", "10001:10001"]
    done = podman("run", "--rm", *confined, *places, *variables, image, *container["args"], check=False)
    return done.returncode, done.stdout + done.stderr


def test_it_writes_a_report_and_its_exit_status_is_the_verdict(loadtest: str, server: Server, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    status, said = run(loadtest, {"failRatio": 0}, server.url, tmp_path)
    assert status == 0, said
    [report] = tmp_path.glob("*.html")
    assert "openai query" in report.read_text("utf-8")
    status, said = run(loadtest, {"minRps": 1000000}, server.url, tmp_path)
    assert status == 1
    assert "load: missed: " in said
