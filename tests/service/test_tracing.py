"""What a traced request remembers of the batches that its rows were in."""

from __future__ import annotations

from service.tracing import MORE_ROWS, MOST_RUNS, Context, Run, Trace


def run(number: int) -> Run:
    return Run(number, begins=0.0, ends=1.0, rows=8, tokens=64, executor="0", is_lone=False)


def test_runs_are_noted_up_to_a_bound_and_of_those_beyond_it_only_rows() -> None:
    trace = Trace(Context("1" * 32, "1" * 16, 1), None, "", "POST /embed", 0.0)
    runs = [run(number) for number in range(MOST_RUNS + 3)]
    for one in runs[:MOST_RUNS]:
        trace.ran(one)
        trace.ran(one)
    assert trace.runs == [(one, 2) for one in runs[:MOST_RUNS]]
    assert trace.attributes == {}
    for one in runs[MOST_RUNS:]:
        trace.ran(one)
        trace.ran(one)
    assert len(trace.runs) == MOST_RUNS
    assert trace.attributes == {MORE_ROWS: 6}
