"""Whose rows run next: a fair queue. Pure: no clock, no lock, no await.

Requests wait in classes by the tokens of all their rows: those that fit one batch, those of up to four times as
many, of up to sixteen times, and so on. Within a class, first come first served. Between classes, start-time fair
queueing (Goyal, Vin and Cheng, 1996): each class with work gets an equal share of what the runtime computes, because
the one that has been served least goes next. So a short request does not wait for the thousand chunks of a document
in the queue, and the document goes on beside any number of short requests: nobody starves.

A batch is packed from one class. A short text among the rows of a document would have to wait for all of them, while
a small batch of its own costs only `Costs.overhead`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar

from service.packing import LOOKAHEAD, USUAL, Costs, pack

# With batches of 512 tokens, requests over 131,072 are the last class: about 450,000 characters of English.
CLASSES = 6
GROWTH = 4

Row = TypeVar("Row", bound=Hashable)


@dataclass(slots=True, eq=False)
class _Class(Generic[Row]):
    """Requests of about one size. `waiting` holds the tokens of each row, oldest first."""

    waiting: dict[Row, int] = field(default_factory=dict)
    tokens: int = 0  # of all that wait
    served: int = 0  # cost in tokens of what was taken from it, or the others' level where it was idle meanwhile

    def remove(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.tokens -= self.waiting.pop(row)


class FairQueue(Generic[Row]):
    """Rows that wait to be run, whatever they are to the caller."""

    def __init__(self, max_batch_tokens: int, costs: Costs = USUAL) -> None:
        """`costs` are those of a batch."""
        self._max_batch_tokens = max_batch_tokens
        self._costs = costs
        self._limits = [max_batch_tokens * GROWTH**i for i in range(CLASSES - 1)]  # tokens of a request, inclusive
        self._classes: list[_Class[Row]] = [_Class() for _ in range(CLASSES)]
        self._clock = 0  # `served` of the class that went last, before it went
        self.taken = 0  # cost in tokens of all batches so far

    def __bool__(self) -> bool:
        for one in self._classes:  # noqa: SIM110 - asked for with every row, and `any` takes three times as long
            if one.waiting:
                return True
        return False

    def __len__(self) -> int:
        return sum([len(one.waiting) for one in self._classes])

    @property
    def tokens(self) -> int:
        """Tokens of all rows that wait, without padding."""
        return sum([one.tokens for one in self._classes])

    def is_full_for(self, tokens: int, limit: int, waiting: int = 0) -> bool:
        """Whether a request of so many tokens is over the limit, together with what waits; `waiting` ones of its own
        do so already, for others.

        Larger requests do not count against it. One that is over the limit alone fits where none of its class waits:
        it could never be let in beside steady small ones otherwise.
        """
        number, new = self.class_of(tokens), tokens - waiting
        if new > limit:
            return self._classes[number].tokens > 0
        return sum(one.tokens for one in self._classes[: number + 1]) + new > limit

    def class_of(self, tokens: int) -> int:
        """The number of the class of requests of so many tokens, from 0."""
        return bisect_left(self._limits, tokens)

    def nearest(self, tokens: int, number: int) -> int:
        """The tokens of a request of that class that are nearest to so many."""
        least = self._limits[number - 1] + 1 if number else 0
        most = self._limits[number] if number < len(self._limits) else tokens
        return max(least, min(tokens, most))

    def tokens_of_class(self, number: int) -> int:
        """Tokens that wait in a class."""
        return self._classes[number].tokens

    def work_until(self, tokens: int, waiting: int = 0) -> int:
        """Tokens that are computed until a request of so many is done, its own included, if no others come. `waiting`
        ones of its own wait already.

        Classes have equal shares, so each of the others does as much meanwhile as its own, or all that it has.
        """
        number = self.class_of(tokens)
        own = self._classes[number].tokens + tokens - waiting
        return own + sum([min(one.tokens, own) for i, one in enumerate(self._classes) if i != number])

    def add(self, new: Sequence[tuple[Row, int]], waiting: Sequence[tuple[Row, int]] = ()) -> None:
        """The rows of one request, each with its tokens; apart, those that wait already, because others asked for
        them. They leave the class they wait in for this request's, where that is of smaller requests."""
        tokens = sum([length for _, length in new])
        number = self.class_of(tokens + sum([length for _, length in waiting]))
        its = self._classes[number]
        if not its.waiting:
            its.served = max(its.served, self._clock)  # time spent idle is not saved up
        its.waiting.update(new)
        its.tokens += tokens
        for row, length in waiting:
            for larger in self._classes[number + 1 :]:
                if row in larger.waiting:
                    larger.remove([row])
                    its.waiting[row] = length
                    its.tokens += length

    def discard(self, rows: Iterable[Row]) -> int:
        """The rows that still wait leave; how many there were."""
        before, rows = len(self), list(rows)
        for one in self._classes:
            one.remove([row for row in rows if row in one.waiting])
        return before - len(self)

    def take(self) -> list[Row]:
        """The next batch, which leaves the queue; there must be rows waiting."""
        its = self._next()
        lengths = list(islice(its.waiting.values(), LOOKAHEAD))
        chosen = pack(lengths, self._max_batch_tokens, self._costs)
        self._clock = its.served
        cost = self._costs.of([lengths[i] for i in chosen]) + self._costs.overhead
        its.served += cost
        self.taken += cost
        candidates = list(islice(its.waiting, max(chosen) + 1))
        rows = [candidates[i] for i in chosen]
        its.remove(rows)
        return rows

    @property
    def is_short_next(self) -> bool:
        """Whether `take` would give a batch of requests that each fit one."""
        shortest = self._classes[0]
        return bool(shortest.waiting) and self._next() is shortest

    @property
    def has_a_full_short_batch(self) -> bool:
        """Whether as much as a batch holds waits of the requests that each fit one."""
        return self._classes[0].tokens >= self._max_batch_tokens

    def _next(self) -> _Class[Row]:
        """Least served; of equals, that of the smaller requests."""
        return min((one for one in self._classes if one.waiting), key=lambda one: one.served)
