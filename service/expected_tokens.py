"""How many tokens a request may have, by the bytes of its body alone. Pure, but for what it has learnt.

What the clients of a route write around their texts, in which language and with which escapes, is much alike from one
request to the next. So the tokens a byte of those that were read lately bound those of the next one, well enough to
turn it away where it stands no chance, before its body is parsed. Whoever writes otherwise is read now and then all
the same, and from then on the bound is theirs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_KEPT = 0.98  # of what was learnt before, with each request
_KEPT_OF_MOST = 0.9995  # the same of the densest: half of it after some 1,400 requests
_ENOUGH = 8  # requests, until anything is expected
_LOOK_EVERY = 16  # requests that could be turned away
_ELSEWHERE = 500  # requests after one that waited in another queue, in which there may be more of them


@dataclass(slots=True)
class _Learnt:
    """Of one route: sums that fade."""

    requests: int = 0
    tokens: float = 0.0
    size: float = 0.0
    most: float = 0.0  # tokens a byte
    elsewhere: int = 0
    unread: int = 0


class ExpectedTokens:
    """Of one model, by route."""

    def __init__(self) -> None:
        self._routes: dict[str, _Learnt] = {}

    def learn(self, route: str, size: int, tokens: int) -> None:
        """A body of so many bytes had so many tokens."""
        learnt = self._of(route)
        learnt.requests += 1
        if learnt.elsewhere:
            learnt.elsewhere -= 1
        learnt.tokens = _KEPT * learnt.tokens + tokens
        learnt.size = _KEPT * learnt.size + size
        learnt.most = max(_KEPT_OF_MOST * learnt.most, tokens / max(size, 1))

    def learn_of_refused(self, route: str, size: int, tokens: int) -> None:
        """The same of one that was read and refused. It teaches nothing of a route on which nothing was answered: what
        is asked there may wait in another queue."""
        if self.knows(route):
            self.learn(route, size, tokens)

    def learn_elsewhere(self, route: str) -> None:
        """One of that route's waited in another queue, which a body's length does not tell."""
        self._of(route).elsewhere = _ELSEWHERE

    def knows(self, route: str) -> bool:
        """Whether enough has been answered there, and by this queue alone."""
        learnt = self._routes.get(route)
        return learnt is not None and learnt.requests >= _ENOUGH and learnt.size > 0 and not learnt.elsewhere

    def of(self, route: str, size: int) -> int:
        """Tokens of a body of so many bytes, on a route that it knows."""
        learnt = self._routes[route]
        return max(1, round(size * learnt.tokens / learnt.size))

    def most(self, route: str, size: int) -> int:
        """Those that it may have: as many a byte as the densest of late."""
        return max(1, math.ceil(size * self._routes[route].most))

    def is_due(self, route: str) -> bool:
        """Whether this one of those that could be turned away is read all the same."""
        learnt = self._routes[route]
        learnt.unread += 1
        return learnt.unread % _LOOK_EVERY == 0

    def _of(self, route: str) -> _Learnt:
        learnt = self._routes.get(route)
        if learnt is None:
            learnt = self._routes[route] = _Learnt()
        return learnt
