"""What a load must show, or else it failed. locust's process is told by variables, and so reads them here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

_PREFIX = "EMBEDSERVE_LOAD_"


@dataclass(frozen=True, slots=True)
class Measured:
    """Of all requests of a load: how many, the share that failed, 95th percentile in ms, answers a second."""

    requests: int
    fail_ratio: float
    p95_ms: float
    rps: float


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Each is what just passes; None is not asked for."""

    fail_ratio: float = 0.01
    p95_ms: float | None = None
    min_rps: float | None = None

    def missed(self, found: Measured) -> Iterator[str]:
        """A line for each threshold that was missed."""
        if not found.requests:
            yield "no request was answered"
            return
        if found.fail_ratio > self.fail_ratio:
            yield f"fail ratio {found.fail_ratio:.2%} is above {self.fail_ratio:.2%} of the requests"
        if self.p95_ms is not None and found.p95_ms > self.p95_ms:
            yield f"p95 {found.p95_ms:.0f} ms is above {self.p95_ms:g} ms"
        if self.min_rps is not None and found.rps < self.min_rps:
            yield f"{found.rps:.1f} requests/s are below {self.min_rps:g}"

    def variables(self) -> dict[str, str]:
        """For the environment of locust."""
        given = {one.name: getattr(self, one.name) for one in fields(self)}
        return {_PREFIX + name.upper(): str(value) for name, value in given.items() if value is not None}


def from_environment(environment: Mapping[str, str]) -> Thresholds:
    """Raises ValueError where a variable is no number of that kind, with its name."""
    names = {one.name: _PREFIX + one.name.upper() for one in fields(Thresholds)}
    given = {name: _number(key, environment[key]) for name, key in names.items() if environment.get(key)}
    return Thresholds(**given)


def _number(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{variable} is {text!r}, and must be a number of 0 or more")
    return value
