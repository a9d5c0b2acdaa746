"""Whose rows run next."""

from __future__ import annotations

from collections import Counter
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from service.packing import BATCH_OVERHEAD, LOOKAHEAD, USUAL
from service.queueing import CLASSES, GROWTH, FairQueue

Row = tuple[str, int]  # name of its request, number
BUDGET = 32
SHORT, LONG = [8], [16] * 1000

requests = st.lists(st.integers(1, 40), min_size=1, max_size=60)


def fill(queue: FairQueue[Row], name: str, lengths: list[int]) -> list[Row]:
    rows = [(name, number) for number in range(len(lengths))]
    queue.add(list(zip(rows, lengths, strict=True)))
    return rows


def names(rows: list[Row]) -> set[str]:
    return {name for name, _ in rows}


def class_of(lengths: list[int]) -> int:
    """As the module says it, in other words than its code."""
    return next(i for i in count() if i == CLASSES - 1 or sum(lengths) <= BUDGET * GROWTH**i)


@given(st.lists(requests, max_size=30))
def test_every_row_goes_once_in_batches_of_one_class_within_the_budget(given_requests: list[list[int]]) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    lengths = {str(i): request for i, request in enumerate(given_requests)}
    waiting = Counter(row for name, request in lengths.items() for row in fill(queue, name, request))
    while queue:
        batch = queue.take()
        assert len({class_of(lengths[name]) for name in names(batch)}) == 1
        assert len(batch) == 1 or USUAL.of([lengths[name][number] for name, number in batch]) <= BUDGET
        waiting.subtract(batch)
        assert queue.tokens == sum(times * lengths[name][number] for (name, number), times in waiting.items())
        assert len(queue) == waiting.total()
    assert set(waiting.values()) <= {0}


@given(st.integers(0, 100), st.lists(requests, max_size=5))
def test_a_short_request_is_next_whatever_waits_before_it(batches: int, others: list[list[int]]) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "document", LONG)
    for i, other in enumerate(others):
        fill(queue, f"other {i}", [40, *other])  # larger than a batch
    for _ in range(batches):
        queue.take()
    fill(queue, "short", SHORT)
    assert names(queue.take()) == {"short"}


@given(st.lists(st.integers(0, CLASSES - 1), min_size=2, max_size=CLASSES, unique=True), st.integers(1, 300))
def test_classes_that_have_work_get_equal_shares(classes: list[int], batches: int) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    lengths = {str(one): 16 if one % 2 else 20 for one in classes}  # two to a batch, or one
    rows = {str(one): BUDGET * GROWTH**one // lengths[str(one)] for one in classes}  # just fits its class
    costs, waiting = dict.fromkeys(rows, 0), dict.fromkeys(rows, 0)
    for _ in range(batches):
        for name in rows:
            if not waiting[name]:
                waiting[name] = len(fill(queue, name, [lengths[name]] * rows[name]))
        batch = queue.take()
        (name,) = names(batch)
        waiting[name] -= len(batch)
        costs[name] += lengths[name] * len(batch) + BATCH_OVERHEAD
    assert max(costs.values()) - min(costs.values()) <= 2 * (BUDGET + BATCH_OVERHEAD)


@given(st.integers(1, 200))
def test_idleness_is_not_saved_up(batches: int) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "document", LONG)
    for _ in range(batches):
        queue.take()
    for i in range(100):
        fill(queue, f"short {i}", [16, 16])
    turns = ["document" in names(queue.take()) for _ in range(20)]
    assert 9 <= turns.count(True) <= 10


def test_no_short_requests_however_many_starve_a_document() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "document", [16] * 100)
    served = 0
    for i in range(102):
        fill(queue, f"short {i}", [16, 16])
        served += sum(name == "document" for name, _ in queue.take())
    assert served == 100


@given(st.lists(st.integers(1, BUDGET), min_size=2, max_size=50))
def test_within_a_class_the_oldest_goes_with_every_batch(lengths: list[int]) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    waiting = [row for i, length in enumerate(lengths) for row in fill(queue, f"{i:02}", [length])]
    while queue:
        batch = queue.take()
        assert waiting[0] in batch
        waiting = [row for row in waiting if row not in batch]


@given(requests, requests, st.integers(0, 20))
def test_rows_that_are_discarded_leave_the_others(mine: list[int], others: list[int], batches: int) -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    rows = fill(queue, "mine", mine)
    left = Counter(fill(queue, "others", others))
    gone: Counter[Row] = Counter()
    for _ in range(batches):
        gone.update(queue.take() if queue else [])
    assert queue.discard(rows) == sum(gone[row] == 0 for row in rows)
    assert queue.discard(rows) == 0
    assert queue.tokens == sum(others[number] for _, number in left - gone)
    while queue:
        gone.update(queue.take())
    assert left <= gone


def test_larger_requests_do_not_count_against_the_limit() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "short", [BUDGET])
    fill(queue, "medium", [20, 20])
    fill(queue, "document", LONG)
    for tokens, beside in ((1, BUDGET), (BUDGET, BUDGET), (4 * BUDGET, BUDGET + 40), (10**5, BUDGET + 40 + 16_000)):
        assert not queue.is_full_for(tokens, beside + tokens)
        assert queue.is_full_for(tokens, beside + tokens - 1)


def test_a_request_over_the_limit_alone_fits_where_none_of_its_kind_waits() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "short", [BUDGET])
    assert not queue.is_full_for(10 * BUDGET, 5 * BUDGET)
    fill(queue, "document", [10 * BUDGET])
    assert queue.is_full_for(10 * BUDGET, 5 * BUDGET)


def test_what_waits_for_others_already_takes_no_room() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "short", [BUDGET])
    assert queue.is_full_for(10, BUDGET + 5)
    assert queue.is_full_for(10, BUDGET + 5, waiting=4)
    assert not queue.is_full_for(10, BUDGET + 5, waiting=5)


def test_a_row_that_a_shorter_request_asks_for_too_waits_where_that_does() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    wanted = fill(queue, "document", LONG)[-1]
    queue.add([(("short", 0), 8)], [(wanted, 16)])
    assert queue.tokens == 16 * 1000 + 8
    assert len(queue) == 1001
    assert set(queue.take()) == {("short", 0), wanted}
    assert queue.tokens == 16 * 999
    assert queue.discard([wanted]) == 0


def test_a_row_that_a_longer_request_asks_for_too_stays_where_it_is() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    (wanted,) = fill(queue, "short", SHORT)
    queue.add([(("document", i), 16) for i in range(1000)], [(wanted, 8)])
    assert queue.take() == [wanted]
    assert queue.tokens == 16 * 1000


def test_a_request_is_as_large_as_all_it_asks_for() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    waiting = [(row, 16) for row in fill(queue, "document", LONG)]
    queue.add([(("its double", 0), 8)], waiting)
    assert not queue.is_short_next


def test_a_short_batch_is_full_when_as_much_waits_as_it_holds_of_requests_that_each_fit_one() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    fill(queue, "document", LONG)
    assert not queue.has_a_full_short_batch
    fill(queue, "short", [BUDGET - 1])
    assert not queue.has_a_full_short_batch
    fill(queue, "another", [1])
    assert queue.has_a_full_short_batch


def test_short_requests_are_next_at_their_turn() -> None:
    queue: FairQueue[Row] = FairQueue(BUDGET)
    assert not queue.is_short_next
    fill(queue, "document", LONG)
    assert not queue.is_short_next
    fill(queue, "short", [BUDGET])
    fill(queue, "more", [BUDGET])
    assert queue.is_short_next
    assert "document" not in names(queue.take())
    assert not queue.is_short_next
    assert names(queue.take()) == {"document"}
    assert queue.is_short_next


def test_work_for_one_batch_is_bounded() -> None:
    queue: FairQueue[Row] = FairQueue(10**9)
    fill(queue, "many", [1] * (4 * LOOKAHEAD))
    assert len(queue.take()) == LOOKAHEAD
