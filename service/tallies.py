"""Counters, gauges and histograms that one thread writes and reads, so that counting takes no lock. Pure.

prometheus_client's own take a lock for every number, and a histogram of theirs goes through its buckets one by one:
of a short request's time that was more than parsing its JSON.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from time import time
from typing import Generic, NamedTuple, TypeVar


class Exemplar(NamedTuple):
    """One value of those that a bucket counts, with what it can be found by; `at` in Unix seconds."""

    labels: Mapping[str, str]
    value: float
    at: float


class Sample(NamedTuple):
    """One number: what is added to the family's name and labels for it."""

    suffix: str
    labels: Mapping[str, str]
    value: float
    exemplar: Exemplar | None = None


class Counter:
    """A number that only grows."""

    KIND = "counter"
    __slots__ = ("_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None

    def inc(self, amount: float = 1) -> None:
        """`amount` is not negative."""
        self._value += amount

    def set_function(self, read: Callable[[], float]) -> None:
        """To what `read` says whenever it is asked for."""
        self._read = read

    def samples(self) -> Iterator[Sample]:
        """For the exposition."""
        yield Sample("_total", {}, self._value if self._read is None else self._read())


class Gauge:
    """A number that goes up and down."""

    KIND = "gauge"
    __slots__ = ("_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        """To this."""
        self._value = value

    def inc(self, amount: float = 1) -> None:
        """By this; negative to take away."""
        self._value += amount

    def set_function(self, read: Callable[[], float]) -> None:
        """To what `read` says whenever it is asked for."""
        self._read = read

    def samples(self) -> Iterator[Sample]:
        """For the exposition."""
        yield Sample("", {}, self._value if self._read is None else self._read())


class Histogram:
    """How many values were at most as large as each of `bounds`, which ascend."""

    KIND = "histogram"
    __slots__ = ("_bounds", "_counts", "_exemplars", "_sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)  # by the first bound that is not less; the last is for the others
        self._exemplars: dict[int, Exemplar] = {}  # the newest of a bucket, by the same numbers
        self._sum = 0.0

    def observe(self, value: float, found_by: Mapping[str, str] | None = None) -> None:
        """One value more; with labels for what it came from, it is its bucket's exemplar until the next one."""
        bucket = bisect_left(self._bounds, value)
        self._counts[bucket] += 1
        self._sum += value
        if found_by is not None:
            self._exemplars[bucket] = Exemplar(found_by, value, time())

    def samples(self) -> Iterator[Sample]:
        """For the exposition: buckets are cumulative."""
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        for i, (name, count) in enumerate(zip(names, accumulate(self._counts), strict=True)):
            yield Sample("_bucket", {"le": name}, count, self._exemplars.get(i))
        yield Sample("_count", {}, sum(self._counts))
        yield Sample("_sum", {}, self._sum)


Child = TypeVar("Child", Counter, Gauge, Histogram)


class Family(Generic[Child]):
    """One metric with its children by the values of its labels."""

    def __init__(self, name: str, text: str, labels: Sequence[str], make: Callable[[], Child]) -> None:
        """`make` gives a new child; a metric without labels has its only one from the start."""
        self.name, self.text, self.kind = name, text, make().KIND
        self._labels = tuple(labels)
        self._make: Callable[[], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}
        if not labels:
            self.labels()

    def labels(self, *values: object) -> Child:
        """The child with these, as text; made when it is first asked for. Raises ValueError for too few or many."""
        key = tuple(map(str, values))
        if len(key) != len(self._labels):
            raise ValueError(f"{self.name} has the labels {self._labels}, not {key}")
        if key not in self._children:
            self._children[key] = self._make()
        return self._children[key]

    def forget(self, label: str, value: str) -> None:
        """The children with that value; who still holds one counts in vain."""
        if label in self._labels:
            where = self._labels.index(label)
            self._children = {key: child for key, child in self._children.items() if key[where] != value}

    def samples(self) -> Iterator[Sample]:
        """Of all children, with their labels."""
        for values, child in self._children.items():
            own = dict(zip(self._labels, values, strict=True))
            for sample in child.samples():
                yield sample._replace(labels={**own, **sample.labels})
