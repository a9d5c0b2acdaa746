"""Which entries make a batch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.packing import LOOKAHEAD, pack, padded_tokens

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200)


@given(lengths, st.integers(1, 4096))
def test_the_oldest_always_goes_and_the_budget_is_kept(waiting: list[int], budget: int) -> None:
    chosen = pack(waiting, budget)
    assert 0 in chosen
    assert len(set(chosen)) == len(chosen)
    assert all(0 <= position < len(waiting) for position in chosen)
    assert len(chosen) == 1 or padded_tokens([waiting[i] for i in chosen]) <= budget


@given(lengths, st.integers(1, 4096))
def test_no_entry_that_would_fit_is_left_behind(waiting: list[int], budget: int) -> None:
    chosen = pack(waiting, budget)
    longest = max(waiting[i] for i in chosen)
    shortest = min(waiting[i] for i in chosen)
    if (len(chosen) + 1) * longest > budget:
        return
    left = [length for i, length in enumerate(waiting) if i not in chosen]
    assert not [length for length in left if shortest <= length <= longest]
    assert not [length for length in left if length < shortest]


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
