"""The cache: what it keeps, what goes first, what it says it takes."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache import Cache
from service.types import Matrix


def vectors(count: int = 1, dimensions: int = 16) -> Matrix:
    return np.arange(count * dimensions, dtype=np.float32).reshape(count, dimensions)


def size_of_one(dimensions: int = 16) -> int:
    cache = Cache(10**6)
    cache.put(b"k", vectors(1, dimensions)[0])
    return cache.size


def test_it_gives_back_what_was_put_in_and_nothing_else() -> None:
    cache = Cache(10**6)
    cache.put(b"a", vectors()[0])
    found = cache.get(b"a")
    assert found is not None
    assert found.tolist() == vectors()[0].tolist()
    assert cache.get(b"b") is None


def test_it_keeps_copies_of_rows_alone_and_nobody_can_write_to_them() -> None:
    cache = Cache(10**6)
    batch = vectors(100)
    cache.put(b"a", batch[3])
    expected = batch[3].tolist()
    batch[:] = 0
    found = cache.get(b"a")
    assert found is not None
    assert found.base is None
    assert found.tolist() == expected
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_the_least_recently_used_goes_first() -> None:
    cache = Cache(3 * size_of_one())
    for key in (b"1", b"2", b"3"):
        assert cache.put(key, vectors()[0]) == 0
    cache.get(b"1")
    assert cache.put(b"4", vectors()[0]) == 1
    assert [cache.get(key) is None for key in (b"1", b"2", b"3", b"4")] == [False, True, False, False]


def test_one_large_entry_takes_the_place_of_several_small_ones() -> None:
    cache = Cache(4 * size_of_one())
    for key in (b"1", b"2", b"3", b"4"):
        cache.put(key, vectors()[0])
    assert cache.put(b"5", vectors(1, 64)[0]) == 2
    assert len(cache) == 3


def test_what_is_larger_than_the_cache_is_not_kept_and_throws_nothing_out() -> None:
    cache = Cache(2 * size_of_one())
    cache.put(b"1", vectors()[0])
    assert cache.put(b"2", vectors(1, 10_000)[0]) == 0
    assert cache.get(b"2") is None
    assert cache.get(b"1") is not None


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 100), st.booleans())), st.integers(0, 3000))
def test_it_does_what_a_list_in_order_of_use_does(steps: list[tuple[int, int, bool]], limit: int) -> None:
    cache, model = Cache(limit), OrderedDict[bytes, int]()

    def needed(dimensions: int) -> int:
        return size_of_one(dimensions)  # keys are of one length

    for number, dimensions, reads in steps:
        key = str(number).encode()
        if reads:
            found = cache.get(key)
            assert (None if found is None else len(found)) == model.get(key)
            if found is not None:
                model.move_to_end(key)
            continue
        cache.put(key, vectors(1, dimensions)[0])
        model.pop(key, None)
        if needed(dimensions) <= limit:
            while sum(map(needed, model.values())) + needed(dimensions) > limit:
                model.popitem(last=False)
            model[key] = dimensions
        assert cache.size == sum(map(needed, model.values())) <= limit
        assert len(cache) == len(model)


@pytest.mark.parametrize(("tokens", "dimensions", "entries"), [(8, 8, 20_000), (20, 384, 5_000), (250, 1024, 2_000)])
def test_the_bytes_it_says_are_at_least_those_it_takes(tokens: int, dimensions: int, entries: int) -> None:
    row = vectors(1, dimensions)[0]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        cache = Cache(10**9)
        for number in range(entries):
            cache.put(number.to_bytes(4 * tokens), row)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= cache.size <= 1.5 * taken
