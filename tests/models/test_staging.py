"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.staging import STAGING_PREFIX, staged
from service.errors import StartupError

ROOT = Path(__file__).parents[2]


def test_it_appears_on_a_normal_exit_only(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "final"
    with staged(final, replace=False) as folder:
        (folder / "file").write_text("x", "utf-8")
        assert not final.exists()
    assert (final / "file").read_text("utf-8") == "x"
    with pytest.raises(KeyError), staged(tmp_path / "deep" / "other", replace=False):
        raise KeyError
    assert os.listdir(final.parent) == ["final"]


@pytest.mark.parametrize(("replace", "kept"), [(False, "first"), (True, "second")])
def test_when_another_was_there_first(tmp_path: Path, replace: bool, kept: str) -> None:
    final = tmp_path / "final"
    for content in ("first", "second"):
        with staged(final, replace=replace) as folder:
            (folder / "file").write_text(content, "utf-8")
    assert (final / "file").read_text("utf-8") == kept
    assert os.listdir(tmp_path) == ["final"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_disk_refuses_is_a_start_up_error(tmp_path: Path, number: int) -> None:
    with pytest.raises(StartupError, match="final cannot be written"), staged(tmp_path / "final", replace=False):
        raise OSError(number, os.strerror(number))
    assert os.listdir(tmp_path) == []


def test_other_faults_are_not_disguised(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError), staged(tmp_path / "final", replace=False):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


HOLD = """
import sys, time
from pathlib import Path
from models.staging import STAGING_PREFIX, staged
with staged(Path(sys.argv[1]), replace=False) as folder:
    print(folder, flush=True)
    time.sleep(60)
"""


def test_what_a_killed_run_left_is_removed_by_the_next_one_and_what_a_live_one_makes_is_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD]
    runs = [
        subprocess.Popen([*command, str(tmp_path / name)], cwd=ROOT, text=True, stdout=subprocess.PIPE)
        for name in ("killed", "live")
    ]
    try:
        killed, live = (Path(run.stdout.readline().strip()) for run in runs if run.stdout is not None)
        runs[0].kill()
        runs[0].wait(timeout=30)
        with staged(tmp_path / "first", replace=False):
            assert killed.exists(), "it may have been made this very moment"
        for folder in (killed, live):
            os.utime(folder, (time.time() - 600, time.time() - 600))
        with staged(tmp_path / "second", replace=False):
            assert not killed.exists()
            assert live.exists()
    finally:
        for run in runs:
            run.kill()
            run.communicate(timeout=30)


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for name, age in (("young", 600), ("old", 7200)):
        folder = tmp_path / f"{STAGING_PREFIX}{name}"
        folder.mkdir()
        os.utime(folder, (time.time() - age, time.time() - age))
    with staged(tmp_path / "final", replace=False):
        pass
    assert sorted(os.listdir(tmp_path)) == [f"{STAGING_PREFIX}young", "final"]
