"""Replicas that share a load, as a fluid: what one replica was seen to do at each load, times their number. Pure.

Work is in seconds of one replica at its full capacity. All ready replicas have equal parts of what comes. What cannot
be done at once waits; what would wait for longer than a replica lets it is refused, by service/admission.py's rule: a
queue of `max_queue_seconds`, and of CALM as long as something had to be refused in the last seconds.

What the autoscaler reads is what Prometheus would tell it: rates over the last minute as of the last scrape, where the
part of that minute before a replica's first scrape counts as nothing.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from loadtest.hpa import SYNC_SECONDS, Autoscaler, Metric
from service.admission import CALM

SCRAPE_SECONDS = 15
WINDOW_SECONDS = 60  # of rates
_QUIET = 3  # seconds without a refusal, and the overload is over; as in service/admission.py


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: seconds until it is ready, what may wait, and what it was seen to do.

    `loads` ascend and are shares of its capacity; `busy` and `waits` are its busy share and the mean seconds that a
    chunk waits, at each of them.
    """

    loads: Sequence[float]
    busy: Sequence[float]
    waits: Sequence[float]
    start_seconds: float = 45.0
    max_queue_seconds: float = 20.0

    def busy_at(self, load: float) -> float:
        """Busy share, in a straight line between what was seen."""
        return _between(load, self.loads, self.busy)

    def wait_at(self, load: float) -> float:
        """Seconds, beside what a backlog adds."""
        return _between(load, self.loads, self.waits)


def _between(x: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    right = bisect_right(xs, x)
    if right in (0, len(xs)):
        return ys[min(right, len(xs) - 1)]
    part = (x - xs[right - 1]) / (xs[right] - xs[right - 1])
    return ys[right - 1] + part * (ys[right] - ys[right - 1])


@dataclass(slots=True)
class Second:
    """What happened in one: replicas ready and asked for, and of the fleet's work what came, was done and refused (in
    replicas' worth), how busy a replica was, and how long a chunk waited."""

    ready: int
    wanted: int
    came: float
    done: float
    refused: float
    busy: float
    wait: float


Read = Callable[["Fleet"], Sequence[Metric]]


@dataclass(slots=True)
class Fleet:
    """A simulation under way: what happened so far."""

    replica: Replica
    starts: list[float]  # when each replica is ready, oldest first
    history: list[Second] = field(default_factory=list)
    _backlog: float = 0.0
    _strict_until: float = 0.0

    @property
    def now(self) -> int:
        """Seconds."""
        return len(self.history)

    @property
    def ready(self) -> list[float]:
        """When the replicas that are ready became so."""
        return [start for start in self.starts if start <= self.now]

    def second(self, came: float) -> None:
        """One more, in which so much work came."""
        ready = max(1, len(self.ready))
        todo = self._backlog + came
        done = min(todo, float(ready))
        strict = self.now < self._strict_until
        room = ready * (CALM if strict else self.replica.max_queue_seconds)
        left = todo - done
        refused = max(0.0, left - max(room, self._backlog - done))
        if refused:
            self._strict_until = self.now + _QUIET
        self._backlog = left - refused
        load = done / ready
        wait = self.replica.wait_at(load) + self._backlog / ready
        busy = self.replica.busy_at(load)
        self.history.append(Second(len(self.ready), len(self.starts), came, done, refused, busy, wait))

    def resize(self, wanted: int) -> None:
        """The newest go first, as Kubernetes prefers those that are not ready."""
        missing = wanted - len(self.starts)
        self.starts = self.starts[:wanted] + [self.now + self.replica.start_seconds] * max(0, missing)

    def scraped(self) -> list[Second]:
        """The last minute, as of the last scrape."""
        end = self.now // SCRAPE_SECONDS * SCRAPE_SECONDS
        return self.history[max(0, end - WINDOW_SECONDS) : end]

    def busy_of_each(self) -> list[float]:
        """What a rate over the last minute tells, of the replicas with two scrapes or more."""
        end = self.now // SCRAPE_SECONDS * SCRAPE_SECONDS
        sums = [0.0, *accumulate(one.busy for one in self.scraped())]
        found = []
        for start in self.ready:
            seconds = min(int(end - start), len(sums) - 1, WINDOW_SECONDS)
            if seconds >= SCRAPE_SECONDS:
                found.append((sums[-1] - sums[-1 - seconds]) / WINDOW_SECONDS)
        return found

    def mean_wait(self) -> float:
        """Of the chunks of that minute."""
        seconds = self.scraped()
        done = sum(one.done for one in seconds)
        return sum(one.wait * one.done for one in seconds) / done if done else 0.0


def simulate(replica: Replica, scaler: Autoscaler, read: Read, came: Sequence[float], start: int) -> list[Second]:
    """A load, second by second in replicas' worth of work, on a fleet that begins with `start` replicas."""
    fleet = Fleet(replica, [0.0] * start)
    for one in came:
        fleet.second(one)
        if fleet.now % SYNC_SECONDS == 0:
            fleet.resize(scaler.look(fleet.now, len(fleet.starts), read(fleet)))
    return fleet.history
