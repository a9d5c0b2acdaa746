"""schemathesis: requests made up from an OpenAPI document, and the replies held against it.

The service's own document, and OpenAI's of its embeddings (`tests/data/openai-embeddings.openapi.json`, cut out of
openai/openai-openapi). A server error is any 5xx: with one idle model, none of those that the documents name is due.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import Python
from tests.conftest import StartServer
from tests.e2e.process import MODEL, Server

pytestmark = [pytest.mark.heavy, pytest.mark.long]

VERSION = "4.32.5"
CLIENT = Python("schemathesis", (f"schemathesis=={VERSION}",))
OPENAI = Path(__file__).parents[1] / "data" / "openai-embeddings.openapi.json"
RUN_SECONDS = 400
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")

# Invented names never reach a model. Systematic cases have the served one's; of random ones, some keep theirs.
PINNED = f"""
[parameters]
"path.model" = "{MODEL}"
"path.version" = "1"
"body.model" = "{MODEL}"
"""
MIXED = f"""
[dictionaries.models]
values = ["{MODEL}", "sentence-transformers/{MODEL}"]

[dictionaries.versions]
values = ["1"]

[parameters]
"path.model" = {{ dictionary = "models", probability = 0.8 }}
"path.version" = {{ dictionary = "versions", probability = 0.8 }}
"body.model" = {{ dictionary = "models", probability = 0.8 }}
"""
# OpenAI's document has no reply to "base64", which its servers give all the same.
FLOAT = '"body.encoding_format" = "float"\n'


@dataclass(frozen=True)
class Totals:
    """Of one run. `checks` and `statuses` count outcomes and replies, `failures` are in schemathesis's own words."""

    operations: int
    cases: int
    checks: Counter[str]
    statuses: Counter[int]
    failures: list[Any]

    def __str__(self) -> str:
        checks = ", ".join(f"{count} {outcome}" for outcome, count in sorted(self.checks.items()))
        statuses = ", ".join(f"{count} × {status}" for status, count in sorted(self.statuses.items()))
        return (
            f"{self.operations} operations, {self.cases} cases, checks: {checks}; replies: {statuses}; "
            f"{len(self.failures)} failures"
        )


Show = Callable[[Totals], None]


@pytest.fixture(scope="module")
def target(launch: StartServer) -> Server:
    """One to itself: thousands of invented requests leave traces in metrics and logs."""
    return launch()


def fuzz(folder: Path, document: str, config: str, checks: Sequence[str], *options: str) -> Totals:
    """`st run`, deterministic, with one connection. Fails where schemathesis itself could not go on."""
    (folder / "schemathesis.toml").write_text(config)
    report, events = folder / "report.json", folder / "events.ndjson"
    done = subprocess.run(
        [
            str(CLIENT.interpreter().with_name("st")),
            *("--config-file", str(folder / "schemathesis.toml"), "run", document, *options),
            *("--checks", ",".join(checks), "--continue-on-failure", "--no-shrink", "--workers", "1"),
            "--generation-deterministic",
            *("--report", "json,ndjson", "--report-json-path", str(report), "--report-ndjson-path", str(events)),
            *("--request-timeout", "30", "--warnings", "off", "--no-color"),
        ],
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
        check=False,
    )
    assert report.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(report.read_text("utf-8"))
    assert found["complete"], found["stop_reason"]
    assert not found["errors"], found["errors"]
    outcomes, statuses = _count(events)
    return Totals(
        found["operations"]["tested"], found["test_cases"]["generated"], outcomes, statuses, found["failures"]
    )


def _count(events: Path) -> tuple[Counter[str], Counter[int]]:
    """Outcomes of checks, statuses of replies."""
    checks, statuses = Counter[str](), Counter[int]()
    for line in events.read_text("utf-8").splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        checks.update(check["status"] for made in recorder.get("checks", {}).values() for check in made)
        replies = (one["response"] for one in recorder.get("interactions", {}).values())
        statuses.update(reply["status_code"] for reply in replies if reply)
    return checks, statuses


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]) -> Show:
    """Prints totals past pytest's capture, and keeps them in `--junit-xml`."""

    def shown(totals: Totals) -> None:
        record_property("schemathesis", str(totals))
        with capsys.disabled():
            print(f"\nschemathesis {VERSION}: {totals}")

    return shown


@pytest.mark.parametrize(("phase", "config"), [("coverage", PINNED), ("fuzzing", MIXED)])
def test_own_document(target: Server, tmp_path: Path, show: Show, phase: str, config: str) -> None:
    """Every operation; only what the document says comes back."""
    options = ("--phases", phase, "--max-examples", "15")
    totals = fuzz(tmp_path, f"{target.url}/openapi.json", config, CHECKS, *options)
    show(totals)
    assert totals.failures == []
    paths = target.http.get("/openapi.json").json()["paths"]
    assert totals.operations == sum(map(len, paths.values()))
    assert totals.statuses[200] > 5 * totals.operations  # or the models were never reached
    target.assert_well()


def test_openais_document(target: Server, tmp_path: Path, show: Show) -> None:
    """It names no errors but 429, so that of statuses only 5xx is wrong."""
    options = ("--url", f"{target.url}/v1", "--phases", "examples,coverage,fuzzing", "--max-examples", "100")
    totals = fuzz(tmp_path, str(OPENAI), MIXED + FLOAT, ("not_a_server_error", "response_schema_conformance"), *options)
    show(totals)
    assert totals.failures == []
    assert totals.statuses[200] > 50
    target.assert_well()
