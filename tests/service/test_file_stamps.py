"""When a file counts as another one."""

from __future__ import annotations

import os
from pathlib import Path

from service.file_stamps import stamp


def test_what_is_rewritten_or_replaced_is_another(tmp_path: Path) -> None:
    (path := tmp_path / "a").write_text("one")
    first = stamp(path)
    assert first is not None
    assert stamp(path) == first
    os.utime(path, ns=(0, first.written + 1))
    assert stamp(path) not in (None, first)
    os.utime(path, ns=(0, first.written))
    assert stamp(path) == first
    (other := tmp_path / "b").write_text("one")
    os.utime(other, ns=(0, first.written))
    other.replace(path)
    assert stamp(path) not in (None, first)


def test_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    """Kubernetes replaces mounted secrets by one rename of a link."""
    for name in ("old", "new"):
        (tmp_path / name).write_text(name)
    (link := tmp_path / "link").symlink_to("old")
    before = stamp(link)
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(link)
    assert before == stamp(tmp_path / "old")
    assert stamp(link) == stamp(tmp_path / "new") != before


def test_what_is_not_there_has_none(tmp_path: Path) -> None:
    assert stamp(tmp_path / "nothing") is None
