"""A real Prometheus beside a server that is measured: it scrapes, and is asked."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtest.local import free_port, urlopen

_START_LIMIT = 60.0  # seconds until it must answer
_ANSWER_LIMIT = 30.0  # seconds for a request

Sample = tuple[Mapping[str, str], float]


class BadQuery(RuntimeError):
    """Prometheus did not take an expression; its own words."""


class Prometheus:
    """One that runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    def get(self, path: str, **parameters: str) -> Any:
        """`data` of a route of its API. Raises BadQuery, OSError."""
        try:
            url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
            with urlopen(url, _ANSWER_LIMIT) as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise BadQuery(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[Sample]:
        """Labels and values of an instant vector, or of a scalar without labels. Raises BadQuery."""
        data = self.get("query", query=expression)
        if data["resultType"] == "scalar":
            return [({}, float(data["result"][1]))]
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def series(self, expression: str, start: float, end: float, step: float) -> list[tuple[float, float]]:
        """Unix times and values of an expression that gives one series at most. Raises BadQuery."""
        data = self.get("query_range", query=expression, start=str(start), end=str(end), step=str(step))
        return [(float(at), float(value)) for one in data["result"] for at, value in one["values"]]

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            with urlopen(f"{self._url}/-/ready", _ANSWER_LIMIT):
                return True
        except OSError:
            return False


def find() -> Path:
    """The program. Raises RuntimeError where it is not installed."""
    found = shutil.which("prometheus")
    if found is None:
        raise RuntimeError("there is no program prometheus: install it (Debian: apt-get install prometheus)")
    return Path(found)


@contextlib.contextmanager
def scraping(
    program: Path,
    targets: Mapping[int, Mapping[str, str]],
    folder: Path,
    rules: Sequence[Path] = (),
    every: float = 1.0,
) -> Iterator[Prometheus]:
    """`targets` are ports of this machine, and the labels that a cluster's discovery would give them; `every` so many
    seconds it scrapes and evaluates. Raises RuntimeError."""
    folder.mkdir(parents=True, exist_ok=True)
    interval = f"{round(1000 * every)}ms"
    configuration = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(one.resolve()) for one in rules],
        "scrape_configs": [
            {
                "job_name": "embedserve",
                "static_configs": [{"targets": [f"127.0.0.1:{p}"], "labels": dict(of)} for p, of in targets.items()],
            }
        ],
    }
    file, log, port = folder / "prometheus.yaml", folder / "prometheus.log", free_port()
    file.write_text(json.dumps(configuration), "utf-8")  # which is YAML
    command = [str(program), f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}"]
    command += ["--enable-feature=exemplar-storage"]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=output, stderr=output)
    try:
        found = Prometheus(f"http://127.0.0.1:{port}")
        give_up = time.monotonic() + _START_LIMIT
        while not found.is_ready():
            if process.poll() is not None or time.monotonic() > give_up:
                raise RuntimeError(f"Prometheus did not start:\n{log.read_text('utf-8')[-2000:]}")
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()
