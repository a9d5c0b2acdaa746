"""A real Prometheus on a free port, and promtool, as Debian has them."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.clients.environments import Debian
from tests.e2e.process import wait_until
from tests.rolling.proxies import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
PACKAGE = Debian("prometheus", "usr/bin")
SCRAPE_SECONDS = 1

Sample = tuple[Mapping[str, str], float]


def promtool(*arguments: str | Path) -> str:
    """What it says; it must be content."""
    command = [str(PACKAGE.program("promtool")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


class Prometheus:
    """One that scrapes and evaluates every second."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)

    def close(self) -> None:
        """Its connections."""
        self._http.close()

    def query(self, expression: str) -> list[Sample]:
        """Labels and values of an instant vector, or of a scalar without labels. A wrong expression fails the test."""
        reply = self._http.get("/api/v1/query", params={"query": expression})
        assert reply.status_code == 200, f"{expression}: {reply.text}"
        data = reply.json()["data"]
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def value(self, expression: str) -> float:
        """Of the only sample that there must be."""
        ((_, value),) = self.query(expression)
        return value

    def get(self, path: str) -> Any:
        """`data` of another route of its API."""
        reply = self._http.get(f"/api/v1/{path}")
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def scraping(
    targets: Mapping[int, Mapping[str, str]], folder: Path, rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """`targets` are ports and the labels that a cluster's discovery would give them."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = {
        "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
        "rule_files": [str(one.resolve()) for one in rules],
        "scrape_configs": [
            {
                "job_name": "embedserve",
                "static_configs": [{"targets": [f"127.0.0.1:{p}"], "labels": dict(of)} for p, of in targets.items()],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration), "utf-8")
    port = free_port()
    command = [
        str(PACKAGE.program()),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--enable-feature=exemplar-storage",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    found = Prometheus(f"http://127.0.0.1:{port}")
    try:
        wait_until(lambda: found.is_ready() or process.poll() is not None, "Prometheus to answer")
        assert process.poll() is None, (folder / "log").read_text("utf-8")
        yield found
    finally:
        found.close()
        process.kill()
        process.wait()


def dashboard() -> dict[str, Any]:
    """As it is shipped."""
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text("utf-8"))
    return found


def panels() -> list[dict[str, Any]]:
    """Of the dashboard, those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def as_grafana(expression: str, seconds: int = 4 * SCRAPE_SECONDS) -> str:
    """With all namespaces and models, and the range that it takes for `$__rate_interval`: four scrapes."""
    for variable, value in {"$__rate_interval": f"{seconds}s", "$namespace": ".*", "$model": ".*"}.items():
        expression = expression.replace(variable, value)
    return expression


def rules() -> list[dict[str, Any]]:
    """All of the rule file, recording rules and alerts."""
    groups = yaml.safe_load((DEPLOY / "prometheus" / "rules.yaml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def adapter_queries(namespace: str, pods: str) -> dict[str, str]:
    """Names of metrics and the queries that prometheus-adapter makes for them, for pods that match a pattern."""
    found = yaml.safe_load((DEPLOY / "prometheus" / "adapter-rules.yaml").read_text("utf-8"))["rules"]
    filled = {"<<.LabelMatchers>>": f'namespace="{namespace}",pod=~"{pods}"', "<<.GroupBy>>": "pod"}
    queries = {}
    for rule in found:
        query = rule["metricsQuery"]
        for mark, value in filled.items():
            query = query.replace(mark, value)
        queries[rule["name"]["as"]] = query
    return queries
