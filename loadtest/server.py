"""A server under test: a child process that says where it listens, and is gone when the measuring ends."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from models.compile import compile_checkpoint, find_cached
from service.bundle import is_bundle
from service.settings import load_settings

_START_LIMIT = 120.0  # seconds until it must have said its URL
_STOP_LIMIT = 20.0  # seconds until SIGTERM must have ended it
_URL = re.compile(r"http://[^\s/]+")
_COUNTERS = (
    *("computed_tokens_total", "padding_tokens_total", "batch_rows_count", "batch_rows_sum"),
    *("inference_seconds_sum", "inference_seconds_count"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and which process it is."""

    host: str
    port: int
    pid: int

    def counters(self) -> dict[str, float]:
        """What /metrics says about batches so far; empty for a server without such metrics."""
        try:
            with urllib.request.urlopen(f"http://{self.host}:{self.port}/metrics", timeout=10) as reply:
                lines = reply.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return {}
        found = dict.fromkeys(_COUNTERS, 0.0)
        for line in lines:
            name = line.partition("{")[0].removeprefix("embedserve_")
            if name in found:
                found[name] += float(line.rpartition(" ")[2])
        return found


def find_bundle(model: str, say: Callable[[str], None]) -> Path:
    """A bundle's folder, or that of a model in the cache, compiled into it if need be. Raises StartupError."""
    folder = Path(model)
    if is_bundle(folder):
        return folder
    cache_dir = load_settings().cache_dir
    return find_cached(model, cache_dir=cache_dir) or compile_checkpoint(model, cache_dir=cache_dir, say=say)


@contextlib.contextmanager
def embedserve(bundle: Path, options: Sequence[str] = ()) -> Iterator[Server]:
    """This project's server on a free port, without an access log, whatever the caller's environment says."""
    ours = ("EMBEDSERVE_", "AIP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [sys.executable, "-m", "service.cli", "serve", str(bundle), "--port", "0", *options]
    with running(command, environment | {"EMBEDSERVE_ACCESS_LOG": "false"}) as server:
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Server]:
    """Any server that prints its URL on stdout when it is ready. Raises RuntimeError with the last of its words."""
    with tempfile.TemporaryDirectory(prefix="embedserve-bench-") as folder:
        output, errors = Path(folder, "stdout"), Path(folder, "stderr")
        with output.open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=dict(environment)
            )
        try:
            url = urlsplit(_wait_for_url(process, output, errors))
            yield Server(url.hostname or "127.0.0.1", url.port or 80, process.pid)
        finally:
            _stop(process)


def _wait_for_url(process: subprocess.Popen[bytes], output: Path, errors: Path) -> str:
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end:
        if found := _URL.search(output.read_text("utf-8")):
            return found[0]
        if process.poll() is not None:
            break
        time.sleep(0.02)
    said = errors.read_text("utf-8", "replace").strip()[-2000:]
    raise RuntimeError(f"the server did not start (exit status {process.poll()}):\n{said}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
