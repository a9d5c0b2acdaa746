"""How many tokens a request will have, by the bytes of its body alone. Pure, but for what it has learnt.

What the clients of a route write around their texts, in which language and with which escapes, is much alike from one
request to the next. So the tokens a byte of those that were answered tell of the next one, well enough to turn it away
where it stands no chance, before its body is parsed.
"""

from __future__ import annotations

from dataclasses import dataclass

_KEPT = 0.98  # of what was learnt before, with each request
_ENOUGH = 8  # requests, until anything is expected


@dataclass(slots=True)
class _Learnt:
    """Of one route: sums that fade."""

    requests: int = 0
    tokens: float = 0.0
    size: float = 0.0


class ExpectedTokens:
    """Of one model, by route."""

    def __init__(self) -> None:
        self._routes: dict[str, _Learnt] = {}

    def learn(self, route: str, size: int, tokens: int) -> None:
        """A body of so many bytes had so many tokens."""
        learnt = self._routes.get(route)
        if learnt is None:
            learnt = self._routes[route] = _Learnt()
        learnt.requests += 1
        learnt.tokens = _KEPT * learnt.tokens + tokens
        learnt.size = _KEPT * learnt.size + size

    def knows(self, route: str) -> bool:
        """Whether enough has been answered there."""
        learnt = self._routes.get(route)
        return learnt is not None and learnt.requests >= _ENOUGH and learnt.size > 0

    def of(self, route: str, size: int) -> int:
        """Tokens of a body of so many bytes, on a route that it knows."""
        learnt = self._routes[route]
        return max(1, round(size * learnt.tokens / learnt.size))
