"""The export route in an environment of its own: torch and transformers are in none of the tests' others."""

from __future__ import annotations

import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path

from tests.clients.environments import Python
from tests.e2e.process import clean_environment

ROOT = Path(__file__).parents[3]
SECONDS = 400
_PINNED = ("torch==2.13.0", "transformers==5.23.0", "onnxscript==0.7.2", "sentencepiece==0.2.3")


def _requirements() -> tuple[str, ...]:
    """What `embedserve[cpu,export]` needs, the extra's packages at the versions of the reference."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return (*_PINNED, *project["dependencies"], *project["optional-dependencies"]["cpu"])


EXPORT = Python("export", _requirements())


def compile_exports(folders: Sequence[str], cache_dir: Path) -> None:
    """Bundles of checkpoints by the export route, in the cache, where `compile_checkpoint` finds them."""
    done = run_script(str(Path(__file__).with_name("compile_exports.py")), str(cache_dir), *folders)
    assert done.returncode == 0, done.stderr[-4000:]


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Python with torch, transformers and this project."""
    return subprocess.run(
        [str(EXPORT.interpreter()), *arguments],
        env={**clean_environment(), "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
