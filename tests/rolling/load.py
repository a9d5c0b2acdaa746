"""A steady load over connections that are kept open, every vector of which is checked."""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count

import httpx

from tests.conftest import Golden
from tests.e2e.process import MODEL, PATIENCE, cosines, openai_vectors

CLIENTS = 2
_TEXTS = 2  # of a request
_PAUSE = 0.05  # seconds of a client between two requests
_LONG = 4  # every fourth body is a long one, beyond HAProxy's usual buffer of 16 KiB
_PADDING = b" " * 30_000


@dataclass
class Load:
    """What became of the requests through one proxy; written by the load's thread, read by the test's."""

    url: str
    golden: Golden
    answered: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)  # when it was sent, why it failed
    sent: dict[int, float] = field(default_factory=dict)  # those without an answer: when each was sent

    def oldest(self) -> float:
        """Seconds that the request has waited that has waited longest."""
        return time.monotonic() - min(self.sent.values(), default=time.monotonic())

    async def client(self, seed: int, numbers: Iterator[int], stop: threading.Event) -> None:
        """One request after another over one connection."""
        draw = random.Random(seed)
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, trust_env=False) as http:
            while not stop.is_set():
                number = next(numbers)
                self.sent[number] = started = time.monotonic()
                if reason := await self._ask(http, draw, is_long=number % _LONG == 0):
                    self.failures.append((started, reason))
                else:
                    self.answered += 1
                del self.sent[number]
                await asyncio.sleep(_PAUSE)

    async def _ask(self, http: httpx.AsyncClient, draw: random.Random, is_long: bool) -> str:
        """Why the answer is not the right one, if it is not."""
        chosen = draw.sample(range(len(self.golden.texts)), _TEXTS)
        body = json.dumps({"model": MODEL, "input": [self.golden.texts[i] for i in chosen]}).encode()
        try:
            reply = await http.post("/v1/embeddings", content=body + _PADDING * is_long)
        except httpx.TransportError as error:
            return repr(error)
        if reply.status_code != 200:
            return f"{reply.status_code} {reply.text[:200]}"
        right = cosines(openai_vectors(reply), self.golden.vectors[chosen]).min() >= 0.999999
        return "" if right else "wrong vectors"


@contextmanager
def steady(urls: Sequence[str], golden: Golden) -> Iterator[list[Load]]:
    """CLIENTS for each URL, beside the test, until it is done with them."""
    loads = [Load(url, golden) for url in urls]
    stop, numbers = threading.Event(), count()

    async def all_of_them() -> None:
        clients = (one.client(i, numbers, stop) for i, one in enumerate(loads * CLIENTS))
        await asyncio.gather(*clients)

    thread = threading.Thread(target=lambda: asyncio.run(all_of_them()), daemon=True)
    thread.start()
    try:
        yield loads
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not any(one.sent for one in loads)
