"""A server under test: a child process that says where it listens, and is gone when the measuring ends."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.command import undisturbed
from loadtest.local import urlopen
from models.compile import compile_checkpoint, find_cached
from service.bundle import is_bundle
from service.precision import Precision
from service.settings import load_settings

_START_LIMIT = 120.0  # seconds until it must have said its URL
_ANSWER_LIMIT = 10.0  # seconds for its metrics
_STOP_LIMIT = 20.0  # seconds until SIGTERM must have ended it
_URL = re.compile(r"http://[^\s/]+")
_COUNTERS = (
    *("computed_tokens_total", "padding_tokens_total", "batch_rows_count", "batch_rows_sum"),
    *("inference_seconds_sum", "inference_seconds_count"),
)


@dataclass(frozen=True, slots=True)
class Server:
    """Where it listens, and which process it is; `errors` has what it says on stderr, while it runs."""

    host: str
    port: int
    pid: int
    errors: Path = Path(os.devnull)

    def counters(self) -> dict[str, float]:
        """What /metrics says about batches so far. Raises RuntimeError where it does not."""
        url = f"http://{self.host}:{self.port}/metrics"
        try:
            with urlopen(url, _ANSWER_LIMIT) as reply:
                lines = reply.read().decode().splitlines()
        except OSError as error:
            raise RuntimeError(f"{url} does not say what was computed: {error}") from None
        found = dict.fromkeys(_COUNTERS, 0.0)
        for line in lines:
            name = line.partition("{")[0].removeprefix("embedserve_")
            if name in found:
                found[name] += float(line.rpartition(" ")[2])
        return found


def real_tokens(counters: Mapping[str, float]) -> float:
    """What was computed but for padding."""
    return counters["computed_tokens_total"] - counters["padding_tokens_total"]


def find_bundle(model: str, say: Callable[[str], None], precision: Precision = "fp32") -> Path:
    """A bundle's folder, or that of a model in the cache, compiled into it if need be. Raises StartupError."""
    folder = Path(model)
    if is_bundle(folder):
        return folder
    cache_dir = load_settings().cache_dir
    found = find_cached(model, cache_dir=cache_dir, precision=precision)
    return found or compile_checkpoint(model, cache_dir=cache_dir, precision=precision, say=say)


@contextlib.contextmanager
def embedserve(
    bundle: Path, options: Sequence[str] = (), interpreter: Sequence[str] = (sys.executable,)
) -> Iterator[Server]:
    """This project's server on a free port, without an access log, whatever the caller's environment says. Raises
    RuntimeError with the last of its words where it does not start."""
    ours = ("EMBEDSERVE_", "AIP_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [*interpreter, "-m", "service.cli", "serve", str(bundle), "--port", "0", *options]
    with running(command, environment | {"EMBEDSERVE_ACCESS_LOG": "false"}) as server:
        yield server


@contextlib.contextmanager
def running(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[Server]:
    """Any server that prints its URL on stdout when it is ready. Raises RuntimeError with the last of its words."""

    def said_url(output: str) -> tuple[str, int] | None:
        found = _URL.search(output)
        url = urlsplit(found[0] if found else "")
        return (url.hostname or "127.0.0.1", url.port or 80) if found else None

    with _started(command, environment, None, said_url) as server:
        yield server


@contextlib.contextmanager
def answering(
    command: Sequence[str], environment: Mapping[str, str], port: int, path: str, folder: Path | None = None
) -> Iterator[Server]:
    """Any server on 127.0.0.1 that is ready when it answers `path` with 200. `folder` is where it runs.

    Raises RuntimeError with the last of its words.
    """

    def answers(_: str) -> tuple[str, int] | None:
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", 1.0):
                return "127.0.0.1", port
        except OSError:
            return None

    with _started(command, environment, folder, answers) as server:
        yield server


@contextlib.contextmanager
def _started(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path | None,
    where: Callable[[str], tuple[str, int] | None],
) -> Iterator[Server]:
    """`where` says host and port of a server that is ready, from what it has printed so far."""
    with tempfile.TemporaryDirectory(prefix="embedserve-bench-") as temporary, contextlib.ExitStack() as stack:
        output, errors = Path(temporary, "stdout"), Path(temporary, "stderr")
        with output.open("wb") as stdout, errors.open("wb") as stderr, undisturbed():
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, env=dict(environment), cwd=folder
            )
            stack.callback(stop, process)
        host, port = _wait_until_ready(process, output, errors, where)
        yield Server(host, port, process.pid, errors)


def _wait_until_ready(
    process: subprocess.Popen[bytes], output: Path, errors: Path, where: Callable[[str], tuple[str, int] | None]
) -> tuple[str, int]:
    end = time.monotonic() + _START_LIMIT
    while time.monotonic() < end and process.poll() is None:
        if found := where(output.read_text("utf-8", "replace")):
            return found
        time.sleep(0.02)
    status, said = process.poll(), errors.read_text("utf-8", "replace").strip()[-2000:]
    why = f"within {_START_LIMIT:.0f} s" if status is None else f"(exit status {status})"
    raise RuntimeError(f"the server did not start {why}:\n{said}")


def stop(process: subprocess.Popen[bytes], seconds: float = _STOP_LIMIT) -> None:
    """SIGTERM, and SIGKILL after so many seconds, or at once where this process is told to end meanwhile."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        pass
    finally:
        process.kill()
        process.wait()
