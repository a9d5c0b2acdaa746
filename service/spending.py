"""What keys have spent, and what one request spends: from its key's check to its reply. The event loop owns all of it;
levels of buckets that several processes share are in their `ledger`.

A request counts against its key's requests when it begins, and its tokens when they are known, before they are queued.
What the server then fails to do is given back; what a client's own mistake, deadline or leaving ends is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextvars import ContextVar

from service import metrics
from service.errors import OverRateLimit, RateLimited
from service.rate_limits import Bucket, Limits, duration

_SECOND = 1e9  # in nanoseconds

OpenBucket = Callable[[str, int], Bucket]
"""Of requests or of tokens, as its name says, and so many a minute."""


class Account:
    """What a key may do, or several keys of one name together; `name` is None where there is none to show."""

    __slots__ = ("limits", "name", "requests", "tokens")

    def __init__(self, name: str | None, limits: Limits, bucket: OpenBucket) -> None:
        self.name = name
        self.limits = limits
        self.requests = None if limits.requests is None else bucket("requests", limits.requests)
        self.tokens = None if limits.tokens is None else bucket("tokens", limits.tokens)


class Spending:
    """Of one request, out of its account."""

    __slots__ = ("_clock", "_requests", "_tokens", "account")

    def __init__(self, account: Account, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock` counts nanoseconds, and never goes back."""
        self.account = account
        self._clock = clock
        self._requests = 0
        self._tokens = 0

    def begin(self) -> None:
        """It is one request. Raises RateLimited."""
        bucket = self.account.requests
        if bucket is None:
            return
        now = self._clock()
        if not bucket.take(1, now):
            self._refused("requests")
            raise _limited("requests", bucket, 1, bucket.wait(1, now), now)
        self._requests = 1

    def spend(self, tokens: int) -> None:
        """So many tokens more. Raises RateLimited, OverRateLimit; it has spent none at all then."""
        bucket = self.account.tokens
        if bucket is None:
            self._tokens += tokens
            return
        now = self._clock()
        if bucket.take(tokens, now):
            self._tokens += tokens
            return
        wanted = self._tokens + tokens
        bucket.give_back(self._tokens, now)
        self._tokens = 0
        # The request still counts: tokens are known by work, which nobody may have without end. So a next one may
        # have to wait for that, too.
        self._requests = 0
        self._refused("tokens")
        if wanted > bucket.per_minute:
            raise OverRateLimit("tokens", bucket.per_minute, wanted)
        wait = bucket.wait(wanted, now)
        if self.account.requests is not None:
            wait = max(wait, self.account.requests.wait(1, now))
        raise _limited("tokens", bucket, wanted, wait, now)

    def give_back(self) -> None:
        """All of it: the server did not do what it was asked for."""
        now = self._clock()
        if self.account.requests is not None:
            self.account.requests.give_back(self._requests, now)
        if self.account.tokens is not None:
            self.account.tokens.give_back(self._tokens, now)
        self._requests = self._tokens = 0

    def count(self) -> None:
        """It has been answered: metrics of a key with a name."""
        if self.account.name is not None:
            counters = metrics.of_key(self.account.name)
            counters.requests.inc()
            counters.tokens.inc(self._tokens)

    def headers(self) -> list[tuple[str, str]]:
        """OpenAI's, as far as there are limits."""
        now = self._clock()
        found = []
        for kind, bucket in (("requests", self.account.requests), ("tokens", self.account.tokens)):
            if bucket is not None:
                left, until_full = bucket.standing(now)
                found += [
                    (f"x-ratelimit-limit-{kind}", str(bucket.per_minute)),
                    (f"x-ratelimit-remaining-{kind}", str(left)),
                    (f"x-ratelimit-reset-{kind}", duration(until_full)),
                ]
        return found

    def _refused(self, limit: str) -> None:
        if self.account.name is not None:
            metrics.KEY_RATE_LIMITED.labels(self.account.name, limit).inc()


def _limited(kind: str, bucket: Bucket, requested: int, wait: int, now: int) -> RateLimited:
    used = bucket.per_minute - bucket.left(now)
    return RateLimited(kind, bucket.per_minute, used, requested, wait / _SECOND, duration(wait))


_CURRENT: ContextVar[Spending | None] = ContextVar("spending", default=None)


def spending_of(account: Account | None) -> Spending | None:
    """From here on this task's request spends out of that account, or out of none.

    A task variable carries it from the door to where tokens are counted, so that what lies between need not know of
    keys. Tasks of pipelined requests begin with the variables of the one before, so none is set as well.
    """
    spending = None if account is None else Spending(account)
    if spending is not _CURRENT.get():
        _CURRENT.set(spending)
    return spending


def spend(tokens: int) -> None:
    """The request of this task is about to have so many tokens run. Raises RateLimited, OverRateLimit."""
    spending = _CURRENT.get()
    if spending is not None:
        spending.spend(tokens)
