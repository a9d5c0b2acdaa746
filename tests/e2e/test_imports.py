"""What a server that runs a bundle never imports: each of these would be a part of every start, and of its memory."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import clean_environment
from tests.rolling.proxies import free_port

NEVER = {"onnx", "safetensors", "huggingface_hub", "torch", "transformers", "sentence_transformers", "optimum"}
NOT_WITHOUT_AN_ENDPOINT = {"opentelemetry.sdk", "opentelemetry.exporter", "google", "service.telemetry.tracer"}
NOT_WHILE_SERVING = {"tqdm", "httpx", "requests", "sympy", "scipy", "pandas", "matplotlib", "PIL", "locust", "pytest"}
NOT_TO_ASK = {"numpy", "onnxruntime", "tokenizers", "fastapi", "uvicorn", "prometheus_client", "models"}
OURS = {"service.tuner", "service.bulk", "models.native", "models.graph", "models.verify", "models.checkpoint"}


@pytest.fixture(scope="module")
def imported(bundle: Path) -> set[str]:
    """Modules by their full names, from Python's own list, of a server that got as far as being ready."""
    own = [sys.executable, "-X", "importtime", "-m", "service.cli", "serve", str(bundle), "--port", "0"]
    with subprocess.Popen(
        own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment()
    ) as process:
        assert process.stdout is not None
        assert "is ready" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    return _modules(errors)


def _modules(errors: str) -> set[str]:
    return set(re.findall(r"import time:[ \d]+\|[ \d]+\|\s+(\S+)", errors))


def test_the_list_is_one_of_imports(imported: set[str]) -> None:
    assert {"service.server", "service.tuning", "onnxruntime", "numpy", "tokenizers", "models.compile"} <= imported


@pytest.mark.parametrize("name", sorted(NEVER | NOT_WITHOUT_AN_ENDPOINT | NOT_WHILE_SERVING | OURS))
def test_not_imported(imported: set[str], name: str) -> None:
    assert not _of(imported, name)


def _of(imported: set[str], name: str) -> set[str]:
    return {one for one in imported if one == name or one.startswith(f"{name}.")}


def test_who_accepts_for_several_processes_imports_nothing_of_what_serves() -> None:
    """It is one more process, and must be the last to fail."""
    own = [sys.executable, "-X", "importtime", "-c", "import service.cli, service.supervisor"]
    done = subprocess.run(own, capture_output=True, text=True, env=clean_environment(), timeout=60, check=True)
    modules = _modules(done.stderr)
    assert "service.supervisor" in modules
    assert not {name for name in NOT_TO_ASK if _of(modules, name)}


def test_health_imports_no_more_than_settings_need() -> None:
    """It is run every few seconds beside the server, whose cores it takes."""
    own = [sys.executable, "-X", "importtime", "-m", "service.cli", "health", "--port", str(free_port())]
    done = subprocess.run(own, capture_output=True, text=True, env=clean_environment(), timeout=60, check=False)
    assert done.stdout.startswith("no answer at")
    modules = _modules(done.stderr)
    assert "service.probe" in modules
    assert not {found for name in NOT_TO_ASK for found in _of(modules, name)}
