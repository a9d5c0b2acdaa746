"""The fleet's model, and what the chart's own targets and behavior make of the load that was recorded."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from loadtest import autoscaling
from loadtest.autoscaling import RECORDED, Recorded, alone, read_json, run, turns
from loadtest.command import MeasurementError
from loadtest.fleet import Fleet, Replica, Second, simulate
from loadtest.hpa import Autoscaler, Behavior, Metric, PodsMetric, reversals

IDEAL = Replica((0.0, 1.0), (0.0, 1.0), (0.0, 0.0))


@pytest.fixture(scope="module")
def recorded() -> Recorded:
    return read_json(RECORDED)


@pytest.fixture(scope="module")
def runs(recorded: Recorded) -> dict[str, list[Second]]:
    return run(recorded)


def fleet(replicas: int, *came: float, replica: Replica = IDEAL) -> Fleet:
    found = Fleet(replica, [0.0] * replicas)
    for one in came:
        found.second(one)
    return found


def test_what_cannot_be_done_waits_and_is_done_later() -> None:
    found = fleet(2, 1.0, 3.0, 3.0, 0.0, 0.0)
    assert [one.done for one in found.history] == [1, 2, 2, 2, 0]
    assert [one.wait for one in found.history] == [0, 0.5, 1, 0, 0]
    assert [one.busy for one in found.history] == [0.5, 1, 1, 1, 0]


def test_what_would_wait_for_too_long_is_refused_and_then_little_may_wait() -> None:
    found = fleet(1, *[5.0] * 60)
    assert found.history[3].refused == 0
    assert max(one.wait for one in found.history) <= IDEAL.max_queue_seconds
    assert found.history[-1].wait < found.history[10].wait
    for one in found.history:
        assert one.came >= one.refused


def test_no_work_is_lost_or_made() -> None:
    found = fleet(3, *[i % 7 for i in range(200)], *[0.0] * 50)
    came, done, refused = (sum(getattr(one, name) for one in found.history) for name in ("came", "done", "refused"))
    assert came == pytest.approx(done + refused)


def test_a_new_replica_is_ready_after_its_start_and_shows_in_the_metrics_scrape_by_scrape() -> None:
    found = fleet(1, *[1.0] * 60)
    assert found.busy_of_each() == [1.0]
    found.resize(2)
    for _ in range(45):
        found.second(2.0)
    assert len(found.ready) == 2
    assert len(found.busy_of_each()) == 1
    for _ in range(30):
        found.second(2.0)
    old, new = found.busy_of_each()
    assert (old, new) == (1.0, 0.5)  # half of the minute
    for _ in range(45):
        found.second(2.0)
    assert found.busy_of_each() == [1.0, 1.0]


def test_a_fleet_that_is_scaled_by_its_busy_share_finds_what_it_needs_and_stays() -> None:
    def read(found: Fleet) -> list[Metric]:
        busy = found.busy_of_each()
        return [PodsMetric(busy, 0.5, len(found.starts) - len(busy))]

    seconds = simulate(IDEAL, Autoscaler(1, 50, Behavior()), read, [4.0] * 3000, start=1)
    assert {one.wanted for one in seconds[1500:]} == {8}
    assert reversals([one.wanted for one in seconds]) <= 1


def test_the_model_does_with_one_replica_what_was_recorded(recorded: Recorded) -> None:
    off = [abs(a - b) for a, b in zip(alone(recorded), recorded.busy, strict=True)]
    assert statistics.mean(off) < 0.05
    assert max(recorded.busy) > 0.9
    assert sum(recorded.refused) > 0 or max(recorded.wait) > 0.25


@pytest.mark.parametrize("name", ["HPA", "KEDA"])
def test_the_charts_autoscaling_follows_the_load_without_flapping(runs: dict[str, list[Second]], name: str) -> None:
    seconds = runs[name]
    assert reversals([one.wanted for one in seconds]) == 3  # up, down, up, down: as the load
    assert seconds[-1].wanted < max(one.wanted for one in seconds) / 2


def test_it_does_not_flap_in_fleets_of_other_sizes_and_moments(recorded: Recorded) -> None:
    found = turns(recorded)
    assert max(*found["HPA"], *found["KEDA"]) <= 3
    assert len(found["HPA"]) == 15


def test_each_of_the_two_signals_alone_is_worse(runs: dict[str, list[Second]], recorded: Recorded) -> None:
    """The busy share ends at 1 and asks for too few; the wait alone shrinks into a backlog, and turns."""

    def waited(name: str) -> float:
        return sum(one.wait * one.done for one in runs[name]) / sum(one.done for one in runs[name])

    def refused(name: str) -> float:
        return sum(one.refused for one in runs[name]) / sum(one.came for one in runs[name])

    assert waited("HPA") < waited("busy share alone")
    assert refused("HPA") == 0
    assert refused("busy share alone") > 0.02
    assert refused("wait alone") > 0
    found = turns(recorded)
    assert sum(found["wait alone"]) > sum(found["HPA"])


def test_the_command_replays_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert autoscaling.main(["--replay", "--svg", str(tmp_path / "plot.svg")]) == 0
    assert "KEDA" in capsys.readouterr().out
    assert (tmp_path / "plot.svg").read_text("utf-8").startswith("<svg")


def test_a_replay_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="without --replay"):
        read_json(tmp_path / "nothing.json")


@pytest.mark.parametrize("content", ["", "[]", '{"pace": 1}'])
def test_a_replay_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(content, "utf-8")
    with pytest.raises(MeasurementError, match="holds no record"):
        read_json(path)
