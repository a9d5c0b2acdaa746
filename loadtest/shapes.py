"""How many users there are, and when. Pure: shares of the peak by shares of the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping


def ramp(time: float) -> float:
    """Up in a straight line for four fifths of the time, then the peak: where does it bend?"""
    return min(1.0, time / 0.8)


def spike(time: float) -> float:
    """A tenth of the peak, and all of it for a fifth of the time in the middle: does it recover?"""
    return 1.0 if 0.4 <= time < 0.6 else 0.1


def soak(time: float) -> float:
    """Half the peak, all the time: does anything grow?"""
    return 0.5


SHAPES: Mapping[str, Callable[[float], float]] = {"ramp": ramp, "spike": spike, "soak": soak}
SECONDS: Mapping[str, float] = {"ramp": 120, "spike": 120, "soak": 3600}
"""What each takes unless told otherwise."""


def users_at(shape: str, elapsed: float, seconds: float, peak: int) -> int | None:
    """At least one user, so that the load never stops; None when the time is over."""
    if elapsed >= seconds:
        return None
    return max(1, round(peak * SHAPES[shape](elapsed / seconds)))
