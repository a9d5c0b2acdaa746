"""The benchmark of several processes, on a server that has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loadtest import processes


def test_it_measures_every_load_on_every_number(
    tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "figures.json"
    told = ["--model", str(bundle), "--null", "--processes", "1,2", "--seconds", "1", "--json", str(figures)]
    assert processes.main(told) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()[:1].isdigit()]
    assert [row[:2] for row in rows] == [["1", "singles"], ["1", "bulk"], ["2", "singles"], ["2", "bulk"]]
    found = json.loads(figures.read_text("utf-8"))["results"]
    assert all(one["tokens"] > 0 and one["cores"] > 0 and not one["result"]["failures"] for one in found)


@pytest.mark.parametrize("numbers", ["", "a", "1,,2", "0"])
def test_numbers_that_are_none(numbers: str) -> None:
    with pytest.raises(SystemExit) as end:
        processes.main(["--processes", numbers])
    assert end.value.code == 2
