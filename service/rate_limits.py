"""How much may be done in a minute: buckets that fill up again at a steady rate. Pure: callers say what time it is.

A bucket holds what is allowed in a minute, and is full again a minute after it was empty. So in any t seconds no more
than limit × (1 + t ÷ 60) is let through: a burst of the whole limit after a pause, and the limit's rate from then on.
These are OpenAI's buckets as its headers show them: of 10,000 requests a minute, one is back after 6 ms.
"""

from __future__ import annotations

from typing import NamedTuple

MINUTE = 60_000_000_000  # in nanoseconds
_MILLISECOND = 1_000_000
_LEVEL_BYTES, _TIME_BYTES = 16, 8  # which hold the level of 10^15 a minute
STATE_BYTES = _LEVEL_BYTES + _TIME_BYTES


class Limits(NamedTuple):
    """What is allowed in a minute; None: any number."""

    requests: int | None = None
    tokens: int | None = None


class Bucket:
    """Times are in nanoseconds of one clock that never goes back.

    The level is kept in whole parts of MINUTE of a token, of which `per_minute` come back in a nanosecond. So nothing
    is ever rounded, and who waits as long as it was told finds enough.
    """

    __slots__ = ("_at", "_level", "per_minute")

    def __init__(self, per_minute: int, now: int) -> None:
        """Full. `per_minute` is at least 1."""
        self.per_minute = per_minute
        self._level = per_minute * MINUTE
        self._at = now

    @property
    def state(self) -> bytes:
        """Level and time, STATE_BYTES of them."""
        return self._level.to_bytes(_LEVEL_BYTES, "little") + self._at.to_bytes(_TIME_BYTES, "little")

    @state.setter
    def state(self, found: bytes) -> None:
        self._level = int.from_bytes(found[:_LEVEL_BYTES], "little")
        self._at = int.from_bytes(found[_LEVEL_BYTES:], "little")

    def take(self, amount: int, now: int) -> bool:
        """Whether there was so much; nothing is taken otherwise."""
        self._fill(now)
        if self._level < amount * MINUTE:
            return False
        self._level -= amount * MINUTE
        return True

    def give_back(self, amount: int, now: int) -> None:
        """What was taken, and not used after all."""
        self._fill(now)
        self._level = min(self._level + amount * MINUTE, self.per_minute * MINUTE)

    def wait(self, amount: int, now: int) -> int:
        """Until there is so much, if nobody else takes any: nanoseconds. `amount` is not over `per_minute`."""
        self._fill(now)
        return max(0, -(-(amount * MINUTE - self._level) // self.per_minute))

    def left(self, now: int) -> int:
        """Whole tokens that are there."""
        self._fill(now)
        return self._level // MINUTE

    def until_full(self, now: int) -> int:
        """Nanoseconds, if nobody takes any more."""
        return self.wait(self.per_minute, now)

    def standing(self, now: int) -> tuple[int, int]:
        """What is `left`, and how long it is `until_full`."""
        return self.left(now), self.until_full(now)

    def _fill(self, now: int) -> None:
        self._level = min(self._level + (now - self._at) * self.per_minute, self.per_minute * MINUTE)
        self._at = now


def duration(nanoseconds: int) -> str:
    """As Go prints a Duration, and so OpenAI its times of reset: 6ms, 1.5s, 2m0.25s; rounded up to milliseconds."""
    milliseconds = -(-nanoseconds // _MILLISECOND)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{milliseconds:03d}".rstrip("0") if milliseconds else ""
    before = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{before}{seconds}{fraction}s"
