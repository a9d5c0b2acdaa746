"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from models.staging import staged
from service.errors import StartupError


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
