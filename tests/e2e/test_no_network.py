"""No outbound connection at run time: the real server, from start to exit, where nothing but loopback is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cut_off import BODIES
from tests.e2e.process import clean_environment


def _may_unshare() -> bool:
    program = shutil.which("unshare")
    return program is not None and subprocess.run([program, "-rn", "true"], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _may_unshare(), reason="needs network namespaces for users (unshare -rn)")


@pytest.fixture(scope="module", params=["a bundle", "the cache"])
def told(request: pytest.FixtureRequest, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What cut_off tells of a server of a bundle, and of one that finds its model compiled in the cache."""
    model = [str(bundle)] if request.param == "a bundle" else []
    own = ["unshare", "-rn", sys.executable, "-m", "tests.e2e.cut_off", str(tmp_path_factory.mktemp("cut")), *model]
    done = subprocess.run(own, capture_output=True, text=True, env=clean_environment(), timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_it_starts_serves_and_exits(told: dict[str, Any]) -> None:
    assert told["dimensions"]
    assert told["exit"] == 0


def test_every_route_answers(told: dict[str, Any]) -> None:
    statuses = told["statuses"]
    assert {path: statuses[path] for path in BODIES} == dict.fromkeys(BODIES, 200)
    assert len(statuses) > 40
    assert {path: status for path, status in statuses.items() if status >= 500} == {}


def test_nothing_tried_to_leave(told: dict[str, Any]) -> None:
    """Neither Python's code nor, by the kernel's count, any library's."""
    assert (told["control"], told["refused"]) == (1, True)
    assert told["attempts"] == []
    assert told["unrouted"] == 0
