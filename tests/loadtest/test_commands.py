"""The benchmarks as commands: they measure a real server, write their figures, and leave nothing running."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest import bench, command
from loadtest.bench import PARTS, Part
from loadtest.figures import read_json
from loadtest.throughput import PRECISIONS
from loadtest.wrk import available
from models.recipe import Options, refuse_at_odds
from service.precision import Precision
from tests.e2e.process import clean_environment, wait_until


def _start(module: str, *arguments: str | Path) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", f"loadtest.{module}", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=clean_environment())


def _servers(bundle: Path) -> list[str]:
    """Command lines of servers of this very bundle that benchmarks have started."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(bundle).encode() in words:
            found.append(str(words))
    return found


@pytest.fixture
def own_bundle(bundle: Path, tmp_path: Path) -> Path:
    """The real one under a name that no other server on the machine has."""
    folder = tmp_path / "bundle-of-a-benchmark"
    folder.symlink_to(bundle)
    return folder


def test_throughput_writes_figures_with_targets_and_leaves_nothing_running(own_bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    process = _start("throughput", "--model", own_bundle, "--rounds", "1", "--seconds", "1", "--json", path)
    output, errors = process.communicate(timeout=150)
    assert process.returncode == 0, errors
    found, details = read_json(path)
    rated = {(one.topic, one.name): one for one in found}
    assert rated["bulk fp32", "÷ R"].at_least == 0.95
    assert rated["single fp32", "÷ R"].at_least == 0.85
    assert rated["latency fp32", "p50 over session.run's"].at_most == 1
    assert all(one.value > 0 for one in found if "over" not in one.name)
    assert "÷ R" in output
    assert details["rounds"][0]["served"]["single fp32"]["result"]["generator"] == ("wrk" if available() else "python")
    assert not _servers(own_bundle)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bulk_is_measured_for_what_can_be_compiled_for_a_cpu(precision: Precision) -> None:
    refuse_at_odds(Options(precision=precision))


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_benchmark_that_is_told_to_leave_stops_its_server(own_bundle: Path, told: signal.Signals) -> None:
    process = _start("concurrency", "--model", own_bundle, "--seconds", "30")
    try:
        wait_until(lambda: bool(_servers(own_bundle)), "the server of a benchmark")
        process.send_signal(told)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + told
    assert not _servers(own_bundle)


def test_a_part_that_fails_takes_no_figures_from_the_others(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "PARTS", (Part("duplicates", ("--no-such-option",)), Part("startup", ("--starts", "1"))))
    path = tmp_path / "figures.json"
    assert bench.main(["--model", str(bundle), "--json", str(path)]) == 1
    found, details = read_json(path)
    assert {one.topic for one in found} == {"start"}
    assert set(details["parts"]) == {"startup"}
    said = capfd.readouterr()
    assert "until ready" in said.out
    assert said.err.splitlines()[-1] == "bench: not measured: duplicates"


@pytest.mark.parametrize("module", [part.module for part in PARTS])
def test_every_part_of_the_bench_takes_the_options_it_is_given(module: str) -> None:
    (part,) = (one for one in PARTS if one.module == module)
    process = _start(module, "--help")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    for option in ("--model", "--json", *(one for one in part.options if one.startswith("--"))):
        assert option in output


def test_what_traces_cost_is_told() -> None:
    process = _start("trace_cost", "--rounds", "1")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert len(output.splitlines()) >= 6
    assert "traces are off" in output


UNWRITABLE = [
    ("throughput", "--json"),
    ("peers", "--json"),
    ("stages", "--svg"),
    ("load", "--html"),
    ("endurance", "--svg"),
    ("capacity", "--document"),
    ("autoscaling", "--document"),
]


@pytest.mark.parametrize(("module", "option"), UNWRITABLE)
def test_what_cannot_be_written_in_the_end_is_refused_in_the_beginning(
    module: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    process = _start(module, option, tmp_path / "file" / "figures")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2, errors
    assert f"argument {option}: " in errors.splitlines()[-1]


def test_a_folder_for_results_that_cannot_be_made_is_a_reason_and_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "RESULTS", tmp_path / "results")
    path = command.results_file(None, "bench")
    assert path.parent.is_dir()
    assert not path.exists()
    (tmp_path / "results").rmdir()
    (tmp_path / "results").touch()
    assert command.run("bench", lambda: print(command.results_file(None, "bench"))) == 1
    assert capsys.readouterr().err.startswith("bench: ")


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("autoscaling", "yaml", "pyyaml"),
        ("trace_cost", "opentelemetry", "embedserve[otel]"),
        ("scaleout", "httpx", "embedserve[test]"),
    ],
)
def test_a_package_that_is_missing_is_named(module: str, package: str, extra: str) -> None:
    run = f"runpy.run_module('loadtest.{module}', run_name='__main__')"
    without = f"import sys, runpy; sys.modules[{package!r}] = None; {run}"
    done = subprocess.run([sys.executable, "-c", without], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"there is no module {package}")
    assert done.stderr.endswith(f": pip install '{extra}'\n")


NOTHING_TO_MEASURE = [
    *(("load", wrong) for wrong in ("--users=0", "--seconds=-3", "--seconds=0", "--seconds=inf", "--fail-ratio=nan")),
    *(("load", wrong) for wrong in ("--users=1.5", "--p95-ms=x")),
    ("startup", "--starts=0"),
    ("concurrency", "--rounds=0"),
    ("fairness", "--seconds=0"),
    ("overload", "--factor=nan"),
    ("capacity", "--cores=0"),
    ("soak", "--requests=0"),
    ("frontier", "--sentences=7"),
    ("trace_cost", "--rounds=0"),
]


@pytest.mark.parametrize(("module", "wrong"), NOTHING_TO_MEASURE)
def test_a_measurement_of_nothing_is_refused(module: str, wrong: str) -> None:
    process = _start(module, wrong)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    option, _, value = wrong.partition("=")
    assert re.search(
        rf"argument {option}: {value} is not a (whole )?number of [0-9.]+ or more$", errors.splitlines()[-1]
    )


def test_a_signal_to_leave_waits_until_what_is_started_is_known() -> None:
    done: list[str] = []

    def work() -> None:
        with command.undisturbed():
            signal.raise_signal(signal.SIGTERM)
            done.append("known")
        done.append("never")

    with pytest.raises(SystemExit) as end:
        command.run("a-test", work)
    assert end.value.code == 128 + signal.SIGTERM
    assert done == ["known"]
