"""Whether a request may wait, and when one that may not is to come back. Pure: the time is an argument.

What waits is bounded in tokens, which is memory, and in seconds, which is what clients feel: the tokens that are
computed before the request is done ÷ the tokens that were computed a second while something waited.

Where nothing has been refused, a queue may be long: many clients that each wait for their answer are no overload, and
refusing them would only make them ask again. Once a request had to be refused, more comes than can be computed, and a
long queue is of no use to anybody: it answers as many as a short one, and each of them later. So from then on little
may wait in that class of requests, until for a while nothing had to be refused. Whoever comes after an overload waits
for that little, not for all that came before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from service.errors import Overloaded
from service.queueing import CLASSES, FairQueue

Row = TypeVar("Row", bound=Hashable)

CALM = 0.5  # seconds of work that may wait where requests are being refused
SLOWDOWN = 8  # a request may always wait for so many times what it takes itself
DEADLINE_PART = 0.5  # of the time that a request has left: the estimate may be wrong by a factor of two
_SPREAD = 4 / 3  # refused requests are told to come back between the queue's time and so many times that
_RETRY_AFTER = (1.0, 60.0)  # seconds: not at once, and not so long as to give up
_QUIET = 3.0  # seconds without a refusal, and the overload is over
# What a queue promises before it has measured anything: tokens per second of a small encoder on one core.
_FIRST_GUESS = 5_000.0
_MEMORY = 3.0  # seconds after which what was measured counts for a third
_MEASURED = 0.2  # seconds of measuring before requests are refused by it


def retry_after(seconds: float) -> float:
    """Seconds until what waits is done → those that a client is told."""
    return min(max(seconds, _RETRY_AFTER[0]), _RETRY_AFTER[1])


class Throughput:
    """Tokens a second, of the time in which something waited. So it counts whatever else the machine has to do."""

    def __init__(self, part: Callable[[], float] = lambda: 1.0, first: float | None = None) -> None:
        """`first` is what the whole machine was seen to do before anything waited, and `part` the part of it that may
        be expected, as long as nothing else is measured."""
        self._part = part
        self._first = first
        self._tokens = self._seconds = 0.0
        self._began: float | None = None  # when something began to wait; None: nothing does
        self._before = 0.0  # seconds in which something waited, until then
        self._counted = 0.0  # how many of all of them have been counted
        self._rate: float | None = None

    @property
    def is_measured(self) -> bool:
        """Whether it is more than a guess."""
        return self._rate is not None or self._first is not None

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self._rate or (self._first or _FIRST_GUESS) * self._part()

    def waits(self, now: float) -> None:
        """Something does."""
        if self._began is None:
            self._began = now

    def rests(self, now: float) -> None:
        """Nothing waits any more, whatever became of it."""
        self._before, self._began = self.waited(now), None

    def waited(self, now: float) -> float:
        """Seconds in which something did, so far."""
        return self._before if self._began is None else self._before + now - self._began

    def computed(self, tokens: int, seconds: float, since: float, now: float) -> None:
        """So many have just been, in so many seconds; `since` is what `waited` gave when they began. Of a batch beside
        which something waited for a part of its time, that part of the tokens counts."""
        waited = self.waited(now)
        elapsed, meanwhile = waited - self._counted, waited - since
        part = meanwhile / seconds if seconds > meanwhile else 1.0
        fade = math.exp(-elapsed / _MEMORY)
        lasting = _MEMORY * (1 - fade)  # of `elapsed`: its beginning fades as what was before it does
        self._tokens = fade * self._tokens + tokens * part * (lasting / elapsed if elapsed else 1.0)
        self._seconds = fade * self._seconds + lasting
        if self._seconds >= _MEASURED and self._tokens:
            self._rate = self._tokens / self._seconds
        self._counted = waited


class Admission(Generic[Row]):
    """The door of one queue. Times are those of one clock, in seconds."""

    def __init__(self, queue: FairQueue[Row], max_tokens: int, max_seconds: float, throughput: Throughput) -> None:
        """`max_seconds` is what a request may be expected to take, where it has time enough itself."""
        self._queue = queue
        self._max_tokens = max_tokens
        self._max_seconds = max_seconds
        self.throughput = throughput
        self.has_refused = False  # ever
        self._strict_until = [-math.inf] * CLASSES
        self._next_return = [-math.inf] * CLASSES  # when the next refused request of a class is told to come back

    def is_strict(self, now: float) -> bool:
        """Whether requests have just been refused."""
        return max(self._strict_until) > now

    def check(self, tokens: int, waiting: int, left: float, now: float) -> None:
        """A request of so many tokens, `waiting` ones of which wait already, for others; `left` are the seconds that
        it has. Raises Overloaded."""
        ahead = self._queue.tokens + tokens
        if ahead <= self._max_tokens and ahead <= min(CALM, DEADLINE_PART * left) * self.throughput.rate:
            return  # by far the most frequent case
        if self._queue.is_full_for(tokens, self._max_tokens, waiting):
            raise self.refusal(tokens, now)
        if not self._is_expected_to_wait(tokens):
            return
        seconds = self._queue.work_until(tokens, waiting) / self.throughput.rate
        if seconds > self._limit(tokens, now):
            raise self.refusal(tokens, now)
        if seconds > DEADLINE_PART * left > 0:
            told = retry_after(self._wait(tokens))
            raise Overloaded("The work that is queued takes longer than this request has time.", told, tokens)

    def turns_away(self, tokens: int, now: float) -> bool:
        """Whether a request of so many tokens at most would be refused in each of the classes that it may be of."""
        classes = range(self._queue.class_of(tokens) + 1)
        return all(self._would_refuse(self._queue.nearest(tokens, number), now) for number in classes)

    def _would_refuse(self, tokens: int, now: float) -> bool:
        """However much time it has."""
        if self._queue.is_full_for(tokens, self._max_tokens):
            return True
        seconds = self._queue.work_until(tokens) / self.throughput.rate
        return self._is_expected_to_wait(tokens) and seconds > self._limit(tokens, now)

    def refusal(self, tokens: int, now: float) -> Overloaded:
        """What its client is told. Those that are refused one after another come back one after another."""
        number, wait = self._queue.class_of(tokens), self._wait(tokens)
        back = max(self._next_return[number], now + wait)
        if back > now + _SPREAD * wait:
            back = now + wait
        self._next_return[number] = back + tokens / self.throughput.rate
        told = retry_after(back - now)
        self._strict_until[number] = now + _QUIET
        self.has_refused = True
        return Overloaded("The server has more work queued than it accepts.", told, tokens)

    def _wait(self, tokens: int) -> float:
        """Seconds until what is queued before it is done."""
        return (self._queue.work_until(tokens) - tokens) / self.throughput.rate

    def _limit(self, tokens: int, now: float) -> float:
        if self._strict_until[self._queue.class_of(tokens)] > now:
            return CALM
        return max(self._max_seconds, SLOWDOWN * tokens / self.throughput.rate)

    def _is_expected_to_wait(self, tokens: int) -> bool:
        """One of a class in which nothing waits is always let in: it could never be, were it larger than the limit."""
        return self.throughput.is_measured and self._queue.tokens_of_class(self._queue.class_of(tokens)) > 0
