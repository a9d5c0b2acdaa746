"""Prometheus and promtool as Debian has them, and what is shipped for them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.clients.environments import Debian

DEPLOY = Path(__file__).parents[2] / "deploy"
PACKAGE = Debian("prometheus", "usr/bin")
SCRAPE_SECONDS = 1


def promtool(*arguments: str | Path) -> str:
    """What it says; it must be content."""
    command = [str(PACKAGE.program("promtool")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def dashboard() -> dict[str, Any]:
    """As it is shipped."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Of the dashboard, those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def as_grafana(expression: str, seconds: int = 4 * SCRAPE_SECONDS) -> str:
    """With all namespaces, releases and models, and the range that it takes for `$__rate_interval`: four scrapes."""
    for variable in ("$namespace", "$release", "$model"):
        expression = expression.replace(variable, ".*")
    return expression.replace("$__rate_interval", f"{seconds}s")


def rules() -> list[dict[str, Any]]:
    """All of the rule file, recording rules and alerts."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]
