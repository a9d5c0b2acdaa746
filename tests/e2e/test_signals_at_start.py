"""The installed command, `embedserve serve`, asked to end before it serves: nothing is lost, and it says nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.process import clean_environment

COMMAND = Path(sys.executable).with_name("embedserve")
ENDS = pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])


def start(*arguments: str | Path, **env: str) -> subprocess.Popen[str]:
    """Of the command's own settings, and with both of its outputs as pipes."""
    own = [str(COMMAND), *map(str, arguments)]
    piped = subprocess.PIPE
    return subprocess.Popen(own, stdout=piped, stderr=piped, text=True, env=clean_environment(env))


@ENDS
def test_while_it_imports(tmp_path: Path, number: signal.Signals, status: int) -> None:
    """What is thrown into an import of a package in C comes out as a package that is missing."""
    slow = "import time\nprint('here', flush=True)\ntry:\n    time.sleep(60)\n"
    slow += "except BaseException:\n    raise ImportError('of C') from None\n"
    (tmp_path / "onnxruntime.py").write_text(slow, "utf-8")
    process = start("serve", "--port", "0", PYTHONPATH=str(tmp_path))
    assert process.stdout is not None
    assert process.stdout.readline() == "here\n"
    process.send_signal(number)
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", status)


@ENDS
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_while_it_reads_its_files(bundle: Path, tmp_path: Path, number: signal.Signals, status: int) -> None:
    os.mkfifo(keys := tmp_path / "keys")
    process = start("serve", bundle, "--port", "0", "--api-key-file", keys)
    writer = os.open(keys, os.O_WRONLY)  # which waits for a reader; the file never ends
    process.send_signal(number)
    assert (*process.communicate(timeout=60), process.returncode) == ("", "", status)
    os.close(writer)
