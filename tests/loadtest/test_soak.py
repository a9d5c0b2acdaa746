"""The soak of batcher and encoder as a command: a short one, and one of what it cannot make small."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest import soak


def test_a_short_soak_tells_what_memory_did(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--real", "--model", str(bundle), "--requests", "200"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["memory", "start", "MB"]
    name, *values = row.split()
    assert name == "as-served"
    assert all(float(one.replace(",", "")) > 0 for one in (*values[:4], values[-1]))


def test_a_bundle_cannot_be_made_small(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--model", str(bundle)]) == 1
    assert capsys.readouterr().err.endswith("--real takes it as it is\n")


def test_a_row_that_is_never_answered_ends_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(soak, "_PATIENCE", 0.0)
    assert soak.main(["--child", "as-served", "--model", str(bundle), "--requests", "100"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "soak: a row was not answered within 0 s\n")
