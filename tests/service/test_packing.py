"""Which entries make a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.packing import BATCH_OVERHEAD, LOOKAHEAD, PADDING_TAKEN_OUT, USUAL, Costs, pack

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200)


@given(lengths, st.integers(1, 4096))
def test_the_oldest_always_goes_and_the_budget_is_kept(waiting: list[int], budget: int) -> None:
    chosen = pack(waiting, budget)
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= position < len(waiting) for position in chosen)
    assert len(chosen) == 1 or USUAL.of([waiting[i] for i in chosen]) <= budget


@given(lengths, st.integers(1, 4096))
def test_the_chosen_are_neighbours_in_length(waiting: list[int], budget: int) -> None:
    chosen = pack(waiting, budget)
    longest, shortest = max(waiting[i] for i in chosen), min(waiting[i] for i in chosen)
    left = [length for i, length in enumerate(waiting) if i not in chosen]
    assert not [length for length in left if shortest < length < longest]


@given(lengths, st.integers(1, 4096))
def test_a_batch_is_worth_more_than_the_oldest_alone(waiting: list[int], budget: int) -> None:
    rows = [waiting[i] for i in pack(waiting, budget)]
    alone = waiting[0] / (waiting[0] + BATCH_OVERHEAD)
    assert sum(rows) / (USUAL.of(rows) + BATCH_OVERHEAD) >= alone


def test_padding_is_worth_it_for_one_small_batch_less_but_not_for_a_full_one() -> None:
    assert sorted(pack([10, 11], 512)) == [0, 1]
    assert sorted(pack([10] * 20 + [24] * 12, 512)) == list(range(20))


@given(lengths, st.integers(1, 4096))
def test_a_queue_is_emptied_in_as_many_batches_as_it_has_entries_at_most(waiting: list[int], budget: int) -> None:
    entries = list(enumerate(waiting))
    served: list[int] = []
    while entries:
        chosen = set(pack([length for _, length in entries], budget))
        served += [number for position, (number, _) in enumerate(entries) if position in chosen]
        entries = [entry for position, entry in enumerate(entries) if position not in chosen]
    assert sorted(served) == list(range(len(waiting)))


def test_the_oldest_takes_its_nearest_neighbours_in_length() -> None:
    waiting = [20, 250, 22, 10, 19, 100, 21]
    assert sorted(pack(waiting, 88)) == [0, 2, 4, 6]


def test_an_entry_over_the_budget_goes_alone() -> None:
    assert pack([600, 1, 1], 512) == [0]


def test_equal_lengths_fill_the_budget() -> None:
    assert len(pack([16] * 100, 512)) == 32


def test_work_for_one_batch_is_bounded() -> None:
    assert max(pack([1] * (4 * LOOKAHEAD), 10**9)) < LOOKAHEAD


def test_a_batch_that_costs_more_beside_its_tokens_is_worth_more_padding() -> None:
    assert len(pack([10, 12, 14, 40], 512, Costs(0))) == 1
    assert len(pack([10, 12, 14, 40], 512, Costs(8))) == 3
    assert len(pack([10, 12, 14, 40], 512, Costs(1000))) == 4


PACKED = Costs(1024, PADDING_TAKEN_OUT)


def test_where_padding_is_taken_out_all_lengths_fill_one_batch() -> None:
    waiting = [20, 250, 22, 10, 190, 100, 21] * 20
    assert sorted(pack(waiting, 16_384, PACKED)) == list(range(140))
    assert len(pack(waiting, 16_384, Costs(1024))) < 140


@given(lengths, st.integers(1, 4096), st.integers(0, 2000))
def test_where_padding_is_taken_out_its_places_stay_bounded(waiting: list[int], budget: int, overhead: int) -> None:
    """They are memory all the same."""
    rows = [waiting[i] for i in pack(waiting, budget, Costs(overhead, PADDING_TAKEN_OUT))]
    assert len(rows) == 1 or sum(rows) <= budget
    assert len(rows) == 1 or len(rows) * max(rows) < PADDING_TAKEN_OUT * (budget + 1)
