"""Another provider beside the server's own session: what is missing is said, and a worker measures."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from loadtest import providers
from loadtest.peers.environments import run


def test_a_worker_measures_a_provider(bundle: Path) -> None:
    said = run([sys.executable, str(providers._WORKER), str(bundle / "model.onnx"), "CPUExecutionProvider", "0.1"], 120)
    found = json.loads(said)
    assert found["rate"] > 0
    assert found["per_cpu_second"] > 0
    assert len(found["vector"]) == 384


def test_what_is_no_bundle_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert providers.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"providers: {tmp_path} is no bundle: `embedserve compile` makes one\n"


def test_a_provider_that_is_not_there_is_named(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert providers.main([str(bundle), "--rounds", "1", "--seconds", "0.1"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"the ONNX Runtime of {sys.executable} has no OpenVINOExecutionProvider, but ")


def test_the_table_compares_by_cpu_time_and_vector() -> None:
    one = {"rate": 1000.0, "per_cpu_second": 500.0, "vector": [1.0, 0.0], "version": "1.2"}
    other = {**one, "per_cpu_second": 700.0, "vector": [0.6, 0.8]}
    table = providers._table({("a/bundle", "CPU"): [one] * 3, ("a/bundle", "Other"): [one | other] * 3})
    assert [line.split()[-2:] for line in table.splitlines()[1:]] == [["500", "1.000000"], ["700", "0.600000"]]
