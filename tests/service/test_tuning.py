"""What is made of measurements: on fixed figures, on files that are whole, broken or of other machines."""

from __future__ import annotations

import hashlib
import json
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BundleError, InferenceError
from service.packing import BATCH_OVERHEAD, PADDING_TAKEN_OUT, Costs
from service.tuner import Batch, rate
from service.tuning import (
    CHOICES,
    GPU_BATCH_OVERHEAD,
    GPU_USUAL,
    Machine,
    Measurement,
    Tuning,
    batch_overhead,
    combinations,
    fastest,
    path_of,
    plan,
    read_tuning,
    this_machine,
    write_tuning,
)

HERE = Machine(cpu="a processor", cores=4, onnxruntime="1.31.1")
DEFAULTS = {"executors": 4, "intra_op_threads": 1, "max_batch_tokens": 512}


def measured(executors: int, threads: int, budget: int, short: float, mixed: float) -> Measurement:
    return Measurement(executors=executors, intra_op_threads=threads, max_batch_tokens=budget, short=short, mixed=mixed)


FIGURES = [
    measured(4, 1, 256, 9_000, 10_000),
    measured(4, 1, 1024, 10_000, 10_000),
    measured(2, 2, 512, 8_000, 8_000),
    measured(1, 4, 512, 5_000, 7_000),
]
TUNING = Tuning(machine=HERE, batch_overhead=11.6, measurements=FIGURES)


def test_the_fastest_of_both_kinds_of_texts_is_chosen() -> None:
    assert fastest(FIGURES, {}) is FIGURES[1]
    assert fastest([measured(1, 1, 1, 100, 1), measured(1, 1, 2, 11, 11)], {}) == measured(1, 1, 2, 11, 11)


def test_of_equally_fast_ones_that_with_the_fewest_tokens_under_way_is_chosen() -> None:
    figures = [measured(2, 1, 1024, 1000, 1000), measured(2, 1, 512, 990, 990), measured(1, 2, 256, 900, 900)]
    assert fastest(figures, {}) is figures[1]


def test_what_is_set_stays_and_the_rest_is_the_best_that_goes_with_it() -> None:
    assert fastest(FIGURES, {"max_batch_tokens": 512}) is FIGURES[2]
    assert fastest(FIGURES, {"executors": 1}) is FIGURES[3]
    assert fastest(FIGURES, {"executors": 3}) is None
    assert fastest([], {}) is None


def test_sources() -> None:
    tuned = plan(DEFAULTS, (), TUNING)
    assert (tuned.executors, tuned.intra_op_threads, tuned.max_batch_tokens) == (4, 1, 1024)
    assert dict(tuned.sources) == dict.fromkeys(CHOICES, "tuned")
    assert tuned.costs == Costs(12)
    partly = plan(DEFAULTS | {"executors": 1}, {"executors", "port"}, TUNING)
    assert (partly.executors, partly.intra_op_threads, partly.max_batch_tokens) == (1, 4, 512)
    assert dict(partly.sources) == {"executors": "set", "intra_op_threads": "tuned", "max_batch_tokens": "tuned"}
    unmeasured = plan(DEFAULTS | {"executors": 3}, {"executors"}, TUNING)
    assert (unmeasured.executors, unmeasured.intra_op_threads, unmeasured.max_batch_tokens) == (3, 1, 512)
    assert dict(unmeasured.sources) == {
        "executors": "set",
        "intra_op_threads": "default",
        "max_batch_tokens": "default",
    }
    assert dict(plan(DEFAULTS, (), None).sources) == dict.fromkeys(CHOICES, "default")
    assert plan(DEFAULTS, (), None).costs == Costs(BATCH_OVERHEAD)


@given(
    st.lists(
        st.builds(
            measured,
            *(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]), st.sampled_from([256, 512, 1024])),
            *(st.floats(1, 1e6), st.floats(1, 1e6)),
        )
    ),
    st.dictionaries(st.sampled_from(CHOICES), st.sampled_from([1, 2, 4, 256, 512])),
)
def test_a_setting_is_never_overruled(figures: list[Measurement], explicit: dict[str, int]) -> None:
    many = HERE.model_copy(update={"cores": 16})
    tuning = Tuning(machine=many, batch_overhead=0, measurements=figures) if figures else None
    chosen = plan(DEFAULTS | explicit, explicit, tuning)
    for name, value in explicit.items():
        assert getattr(chosen, name) == value
        assert chosen.sources[name] == "set"


@pytest.mark.parametrize(("executors", "threads", "lone"), [(2, 1, 2), (1, 1, 1), (2, 4, 8), (64, 1, 16), (1, 32, 32)])
def test_a_lone_batch_has_the_threads_of_all_executors(executors: int, threads: int, lone: int) -> None:
    settings = {"executors": executors, "intra_op_threads": threads, "max_batch_tokens": 512}
    assert plan(settings, CHOICES, None).lone_threads == lone


@given(st.floats(0, 100), st.floats(1e-6, 1e-2))
def test_the_overhead_is_found_again(overhead: float, seconds_a_token: float) -> None:
    tokens = [8, 16, 32, 64, 128, 256]
    found = batch_overhead(tokens, [seconds_a_token * (overhead + n) for n in tokens])
    assert found == pytest.approx(overhead, abs=1e-6)


def test_the_overhead_is_rather_that_of_small_batches() -> None:
    """It is 8; attention's square bends the line, and where every second counts alike the large batches draw it."""
    tokens = [8, 16, 32, 64, 128, 256]
    seconds = [8 + n + 0.001 * n * n for n in tokens]
    slope, start = np.polyfit(tokens, seconds, 1)
    assert start / slope < 1
    assert 5 < batch_overhead(tokens, seconds) < 8


def test_the_overhead_is_never_negative() -> None:
    assert batch_overhead([10, 20], [1.0, 3.0]) == 0
    assert batch_overhead([10, 20], [3.0, 1.0]) == 0


def test_every_combination_gives_each_core_a_thread() -> None:
    assert list(combinations(1, [256])) == [(1, 1, 256)]
    assert list(combinations(2, [512, 256])) == [(2, 1, 256), (1, 2, 256), (2, 1, 512), (1, 2, 512)]
    assert list(combinations(6, [256])) == [(6, 1, 256), (3, 2, 256), (1, 4, 256), (1, 6, 256)]


def test_what_is_written_is_read_again_by_the_same_machine_alone(tmp_path: Path) -> None:
    other = HERE.model_copy(update={"cores": 8})
    path = write_tuning(tmp_path, TUNING)
    write_tuning(tmp_path, TUNING.model_copy(update={"machine": other, "batch_overhead": 1.0}))
    assert read_tuning(tmp_path, HERE) == TUNING
    assert (read_tuning(tmp_path, other) or TUNING).batch_overhead == 1.0
    assert read_tuning(tmp_path, HERE.model_copy(update={"onnxruntime": "2"})) is None
    assert len(list(tmp_path.iterdir())) == 2
    assert path == path_of(tmp_path, HERE)


def test_it_is_replaced_whole(tmp_path: Path) -> None:
    write_tuning(tmp_path, TUNING)
    write_tuning(tmp_path, TUNING.model_copy(update={"batch_overhead": 3.0}))
    assert (read_tuning(tmp_path, HERE) or TUNING).batch_overhead == 3.0
    assert [one.name for one in tmp_path.iterdir()] == [path_of(tmp_path, HERE).name]


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(TUNING.model_dump_json()) | changes)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "\ufeff{}",
        TUNING.model_dump_json()[:-20],
        _changed(format=2),
        _changed(measurements=[]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "executors": 0}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "executors": "4"}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "executors": 100_000}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "executors": 17}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "executors": 256}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "short": 0}]),
        _changed(measurements=[{**FIGURES[0].model_dump(), "short": None}]),
        _changed(batch_overhead=float("nan")),
        _changed(batch_overhead=-1),
        _changed(more=1),
        _changed(machine={**HERE.model_dump(), "cores": 8}),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named(tmp_path: Path, content: str) -> None:
    path_of(tmp_path, HERE).write_text(content, "utf-8")
    with pytest.raises(BundleError, match="tuning-") as caught:
        read_tuning(tmp_path, HERE)
    assert "embedserve tune" in caught.value.remedy


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    path_of(tmp_path, HERE).mkdir()
    with pytest.raises(BundleError, match="cannot be read"):
        read_tuning(tmp_path, HERE)


def test_the_machine_is_what_its_container_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)), raising=False)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "proc/cpuinfo").write_text(
        "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\nflags\t: fpu\n\nprocessor\t: 1\n"
    )
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("300000 100000\n")
    found = this_machine("1.0", tmp_path)
    assert (found.cores, found.onnxruntime) == (3, "1.0")
    assert found.cpu.endswith("AMD EPYC/26/2")
    assert this_machine("1.0", tmp_path / "no-such-place").cpu


@pytest.mark.parametrize(("processes", "executors"), [(1, 8), (2, 4), (3, 2), (8, 1), (20, 1)])
def test_several_processes_share_the_cores_as_far_as_nothing_is_set(processes: int, executors: int) -> None:
    values = {"executors": 8, "intra_op_threads": 1, "max_batch_tokens": 512}
    assert plan(values, (), None, processes=processes).executors == executors
    tuned = Tuning(machine=HERE, batch_overhead=8, measurements=[measured(8, 1, 256, 1, 1)])
    assert plan(values, (), tuned, processes=processes).executors == executors
    assert plan(values, {"executors"}, tuned, processes=processes).executors == 8
    assert plan(values, (), None, on_gpu=True, processes=processes).executors == GPU_USUAL["executors"]


def test_a_gpu_has_other_defaults_and_no_second_session() -> None:
    settings = {"executors": 8, "intra_op_threads": 1, "max_batch_tokens": 512}
    found = plan(settings, (), None, on_gpu=True)
    assert {name: getattr(found, name) for name in CHOICES} == GPU_USUAL
    assert found.lone_threads == found.intra_op_threads
    assert found.costs == Costs(GPU_BATCH_OVERHEAD)
    assert plan(settings, (), None, on_gpu=True, packed=True).costs == Costs(GPU_BATCH_OVERHEAD, PADDING_TAKEN_OUT)
    chosen = plan(settings, ("max_batch_tokens",), None, on_gpu=True)
    assert (chosen.max_batch_tokens, chosen.executors) == (512, GPU_USUAL["executors"])


def test_a_gpu_has_figures_of_its_own(tmp_path: Path) -> None:
    """And those of a CPU keep the name they have always had."""
    cpu = this_machine("1.31.1")
    assert this_machine("1.31.1", gpu="NVIDIA H100").key != cpu.key
    assert cpu.key == hashlib.sha256(cpu.model_dump_json(exclude={"gpu"}).encode()).hexdigest()[:12]


@pytest.mark.parametrize("failing", [0, 3])
def test_a_run_that_fails_ends_the_measurement(failing: int) -> None:
    """One of the two that threads begin with, while the other thread goes on; and a later one."""
    numbers = count()

    def run(_: Batch) -> None:
        if next(numbers) == failing:
            raise InferenceError("no memory")

    with pytest.raises(InferenceError):
        rate(run, [[[1]]], 2, 0.05)
