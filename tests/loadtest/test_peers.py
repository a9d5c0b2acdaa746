"""The comparison's arithmetic, and what it writes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

import loadtest.server
from loadtest.client import Result
from loadtest.command import MeasurementError
from loadtest.figures import write_json
from loadtest.markdown import with_tables
from loadtest.peers.__main__ import Peer, _Bench, _rounds_of
from loadtest.peers.contestants import CONTESTANTS
from loadtest.peers.environments import Environment
from loadtest.peers.report import OURS, plot, rated_figures, summary, tables
from loadtest.throughput import LOADS
from tests.e2e.process import Server

INFINITY = "infinity (torch)"
ABOUT = {
    "date": "2026-01-01",
    "machine": {"cpu": "a CPU", "cores": 2, "python": "3.11"},
    "settings": {INFINITY: "its defaults"},
    "versions": {OURS: {"embedserve": "0.1.0"}, INFINITY: {"infinity-emb": "0.0.78", "torch": "2.13.0"}},
}


def _result(tokens: float, p50: float) -> Result:
    return Result(tokens / 10, tokens, p50, 2 * p50, 100, 5.0, 0, 0.1, 9.0)


def _round(ours: float, theirs: float) -> dict[str, dict[str, Result]]:
    return {
        "single": {INFINITY: _result(theirs, 40), OURS: _result(ours, 10)},
        "latency": {INFINITY: _result(100, 20), OURS: _result(100, 5)},
    }


def test_ratios_are_taken_within_rounds_and_then_their_median() -> None:
    found = summary([_round(400, 100), _round(900, 300), _round(1000, 100)])
    assert found["single"][INFINITY]["times"] == 4
    assert found["single"][OURS]["tokens_per_second"] == 900
    assert found["single"][OURS]["times"] == 1
    assert found["single"][INFINITY]["times_by_cpu"] == 4
    assert found["single"][INFINITY]["server_cores"] == pytest.approx(1.8)
    assert list(found["single"]) == [OURS, INFINITY]


def test_a_lone_text_is_compared_by_its_time() -> None:
    assert summary([_round(1, 1)])["latency"][INFINITY]["times"] == 4


@pytest.mark.parametrize(("ours", "met"), [(400, True), (399, False)])
def test_the_target_is_four_times_infinity_on_singles(ours: float, met: bool) -> None:
    figures = rated_figures(summary([_round(ours, 100)]))
    (times,) = (one for one in figures if one.topic == "single" and one.name == f"times as fast as {INFINITY}")
    assert times.met is met


def test_the_document_has_a_place_for_the_tables_and_keeps_the_rest() -> None:
    document = (Path(__file__).parents[2] / "docs" / "PEERS.md").read_text("utf-8")
    written = with_tables(document, tables(summary([_round(400, 100)]), ABOUT), "peers")
    before, _, rest = document.partition("<!-- peers begin -->")
    after = rest.partition("<!-- peers end -->")[2]
    assert written.startswith(before)
    assert written.endswith(after)
    assert after.strip()
    for words in ("infinity-emb 0.0.78, torch 2.13.0", "a CPU, 2 cores", "4.00 ×", "its defaults"):
        assert words in written


def test_everyone_is_in_the_plot() -> None:
    svg = plot(summary([_round(400, 100)]))
    assert OURS in svg
    assert INFINITY in svg


def test_everyone_is_warm_before_the_first_round(server: Server, bundle: Path) -> None:
    peer = Peer(OURS, "/v1/embeddings", loadtest.server.Server("127.0.0.1", server.port, server.process.pid))
    before = server.metric("embedserve_inputs_total")
    _Bench(bundle, [peer], seconds=1.0, bulk_requests=1).warm_up()
    assert server.metric("embedserve_inputs_total") - before == 64


def test_rounds_are_added_to_those_of_the_same_loads_and_servers_alone(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    loads = [load for load in LOADS if load.name != "bulk"]
    infinity = [one for one in CONTESTANTS if one.name == INFINITY]
    assert _rounds_of(path, loads, infinity) == []
    one = _round(400, 100)
    kept = {load: {name: asdict(result) for name, result in results.items()} for load, results in one.items()}
    write_json(path, [], {"rounds": [kept]})
    assert _rounds_of(path, loads, infinity) == [one]
    for other_loads, others in ((LOADS, infinity), (loads, CONTESTANTS)):
        with pytest.raises(MeasurementError, match="--only and --peers must be the same"):
            _rounds_of(path, other_loads, others)


@pytest.mark.parametrize("content", ["", "{}", '{"figures": [], "rounds": [{"single": {"embedserve": {}}}]}'])
def test_a_file_without_rounds_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    path.write_text(content, "utf-8")
    with pytest.raises(MeasurementError, match="holds no rounds"):
        _rounds_of(path, LOADS, CONTESTANTS)


def test_other_requirements_are_another_environment() -> None:
    one = Environment("a", ("torch==1",), ())
    assert one.folder == Environment("a", ("torch==1",), ("torch",)).folder
    assert one.folder != Environment("a", ("torch==2",), ()).folder
    assert len({contestant.environment.folder for contestant in CONTESTANTS}) == len(CONTESTANTS)
