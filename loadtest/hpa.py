"""What Kubernetes's HorizontalPodAutoscaler does with the metrics that it reads. Pure: the time is an argument.

After Kubernetes's documentation ("Horizontal Pod Autoscaling": algorithm details, configurable scaling behavior):
desired = ceil(current × metric ÷ target), nothing within the tolerance; of several metrics the largest answer; of the
recommendations of a stabilisation window the largest when it goes down, and the smallest when it goes up; policies
bound the change within their periods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

TOLERANCE = 0.1  # of the controller, --horizontal-pod-autoscaler-tolerance
SYNC_SECONDS = 15.0  # between two looks, --horizontal-pod-autoscaler-sync-period


@dataclass(frozen=True, slots=True)
class PodsMetric:
    """Type Pods: a value of each ready pod that has one; `missing` pods have none yet."""

    values: Sequence[float]
    target: float
    missing: int = 0

    def replicas(self, current: int) -> int | None:
        """How many it asks for; None where nothing is known."""
        if not self.values:
            return None
        total, target = sum(map(_milli, self.values)), _milli(self.target)
        ratio = total / target / len(self.values)
        if self.missing:
            # Pods without a value count as content when it goes down, and as idle when it goes up.
            total += self.missing * target if ratio < 1 else 0
            careful = total / target / (len(self.values) + self.missing)
            if (careful < 1) != (ratio < 1):
                return current
            ratio = careful
        wanted = -(-total // target)
        return current if _is_near(ratio) or (self.missing and (wanted > current) != (ratio > 1)) else wanted


@dataclass(frozen=True, slots=True)
class ExternalMetric:
    """Type External, as KEDA's triggers are: one value, for each pod a share of it or not."""

    value: float
    target: float
    is_average: bool

    def replicas(self, current: int) -> int | None:
        """How many it asks for."""
        total, target = _milli(self.value) * (1 if self.is_average else current), _milli(self.target)
        return current if _is_near(total / target / current) else -(-total // target)


Metric = PodsMetric | ExternalMetric


def _milli(value: float) -> int:
    """As Kubernetes's quantities: whole thousandths, so that three times 0.2 is no more than 0.6."""
    return round(1000 * value)


def _is_near(ratio: float) -> bool:
    return abs(ratio - 1) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Policy:
    """At most `value` pods, or percent of them, within `seconds`."""

    kind: Literal["Percent", "Pods"]
    value: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one direction. `select` is which of the policies counts: that of the largest change, or of the smallest."""

    policies: Sequence[Policy]
    window: float = 0.0  # of stabilisation, in seconds
    select: Literal["Max", "Min", "Disabled"] = "Max"


@dataclass(frozen=True, slots=True)
class Behavior:
    """Both directions; by default Kubernetes's own."""

    up: Rules = Rules((Policy("Percent", 100, 15), Policy("Pods", 4, 15)))
    down: Rules = Rules((Policy("Percent", 100, 15),), window=300)


@dataclass(slots=True)
class Autoscaler:
    """One HPA, and what it remembers: recommendations, and changes of the number of pods."""

    least: int
    most: int
    behavior: Behavior = field(default_factory=Behavior)
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def look(self, now: float, current: int, metrics: Sequence[Metric]) -> int:
        """How many pods there are to be from now on; `now` in seconds, and never before the last look's."""
        answers = [one.replicas(current) for one in metrics]
        known = [one for one in answers if one is not None]
        wanted = max(known, default=current)
        if None in answers and wanted < current:
            wanted = current  # what is not known might ask for more
        wanted = self._stabilised(now, current, min(max(wanted, self.least), self.most))
        if wanted > current:
            wanted = max(current, min(wanted, self._ceiling(now, current)))
        elif wanted < current:
            wanted = min(current, max(wanted, self._floor(now, current)))
        if wanted != current:
            self._changes.append((now, wanted - current))
        return wanted

    def _stabilised(self, now: float, current: int, wanted: int) -> int:
        """Between the least of the one window and the most of the other, as near to what is as they allow."""
        self._recommended.append((now, wanted))
        up, down = self.behavior.up.window, self.behavior.down.window
        self._recommended = [one for one in self._recommended if one[0] > now - max(up, down) or one[0] == now]
        least = min(count for at, count in self._recommended if at > now - up or at == now)
        most = max(count for at, count in self._recommended if at > now - down or at == now)
        return min(max(current, least), most)

    def _ceiling(self, now: float, current: int) -> int:
        limits = []
        for policy in self.behavior.up.policies:
            before = current - self._changed(now, policy.seconds)
            grown = before + policy.value if policy.kind == "Pods" else math.ceil(before * (1 + policy.value / 100))
            limits.append(grown)
        return _chosen(self.behavior.up.select, max(limits), min(limits), current)

    def _floor(self, now: float, current: int) -> int:
        limits = []
        for policy in self.behavior.down.policies:
            before = current - self._changed(now, policy.seconds)
            shrunk = before - policy.value if policy.kind == "Pods" else math.floor(before * (1 - policy.value / 100))
            limits.append(shrunk)
        return _chosen(self.behavior.down.select, min(limits), max(limits), current)

    def _changed(self, now: float, seconds: float) -> int:
        """Pods that came, less those that went, within the last so many seconds."""
        return sum(change for at, change in self._changes if at > now - seconds)


def _chosen(select: str, largest: int, smallest: int, current: int) -> int:
    return {"Max": largest, "Min": smallest, "Disabled": current}[select]


def reversals(replicas: Sequence[int]) -> int:
    """How often a series of numbers of pods turned, from growing to shrinking or back."""
    steps = [after - before for before, after in pairwise(replicas) if after != before]
    return sum((before > 0) != (after > 0) for before, after in pairwise(steps))
