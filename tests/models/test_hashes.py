"""Remembered hashes are right whatever happens to the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from models import hashes
from models.hashes import FileHashes
from service.bundle import sha256_of


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Old enough to be remembered."""
    monkeypatch.setattr(hashes, "_TICK_NS", 0)
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Files that were really read."""
    read: list[Path] = []

    def hashing(path: Path) -> str:
        read.append(path)
        return sha256_of(path)

    monkeypatch.setattr(hashes, "sha256_of", hashing)
    return read


def test_an_unchanged_file_is_read_once(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = counted(monkeypatch)
    first = FileHashes(tmp_path / "memo.json")
    digest = first.of(file)
    first.save()
    assert FileHashes(tmp_path / "memo.json").of(file) == digest == sha256_of(file)
    assert read == [file]


def test_a_change_that_keeps_size_and_modification_time_is_seen(tmp_path: Path, file: Path) -> None:
    memo = FileHashes(tmp_path / "memo.json")
    before = memo.of(file)
    stat = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert memo.of(file) != before


def test_a_young_file_is_not_remembered(tmp_path: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashes, "_TICK_NS", 3_600_000_000_000)
    read = counted(monkeypatch)
    memo = FileHashes(tmp_path / "memo.json")
    memo.of(file)
    memo.of(file)
    assert read == [file, file]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_broken_memo_is_ignored(tmp_path: Path, file: Path, content: str) -> None:
    (tmp_path / "memo.json").write_text(content, "utf-8")
    assert FileHashes(tmp_path / "memo.json").of(file) == sha256_of(file)


def test_a_memo_that_cannot_be_written_is_no_failure(tmp_path: Path, file: Path) -> None:
    memo = FileHashes(file / "memo.json")  # below a file
    memo.of(file)
    memo.save()
