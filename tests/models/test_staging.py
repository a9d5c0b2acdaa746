"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from models.staging import STAGING_PREFIX, scratch, staged
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


def age(folder: Path) -> None:
    os.utime(folder, (time.time() - 7200, time.time() - 7200))


def test_a_scratch_folder_is_locked_while_it_is_used_and_removed_behind(tmp_path: Path) -> None:
    with scratch(tmp_path) as folder:
        (folder / "file").write_text("x", "utf-8")
        age(folder)
        with staged(tmp_path / "final", replace=False):
            assert (folder / "file").is_file()
    assert os.listdir(tmp_path) == ["final"]


def test_a_killed_run_s_scratch_folder_is_removed_by_the_next_one(tmp_path: Path) -> None:
    script = "from models.staging import scratch\nwith scratch(Path(sys.argv[1])) as folder: os.kill(os.getpid(), 9)"
    command = [sys.executable, "-c", f"import os, sys\nfrom pathlib import Path\n{script}", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=False, timeout=30)
    (left,) = tmp_path.iterdir()
    age(left)
    with staged(tmp_path / "final", replace=False):
        assert not left.exists()


def test_a_name_may_be_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    final = tmp_path / ("n" * 255)
    for _ in range(2):
        with staged(final, replace=True):
            pass
    assert os.listdir(tmp_path) == [final.name]


AS_NOBODY = """
import fcntl, os, sys
from pathlib import Path
from models.staging import staged
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
with staged(Path(sys.argv[1]), replace=False):
    pass
"""


def test_what_another_user_left_is_left_alone(tmp_path: Path) -> None:
    """The runs of an init container and of the server may have one cache."""
    with TemporaryDirectory() as name:  # which others may reach, as pytest's own they may not
        shared = Path(name)
        shared.chmod(0o777)
        left = shared / f"{STAGING_PREFIX}left"
        left.mkdir()
        left.chmod(0 if os.geteuid() else 0o700)
        age(left)
        subprocess.run([sys.executable, "-c", AS_NOBODY, str(shared / "final")], cwd=ROOT, check=True, timeout=30)
        assert sorted(os.listdir(shared)) == [left.name, "final"]
