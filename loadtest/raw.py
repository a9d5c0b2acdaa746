"""The ceiling: the served bundle's own session, fed with ready batches, no server around it.

One Python thread per core, each calling the same session with one thread inside, on batches of rows sorted by
length, so that next to nothing is padding. A server can come near this and hardly pass it.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loadtest.texts import Text
from service.bundle import MODEL_ONNX, OUTPUT, Bundle
from service.encoder import padded_feeds
from service.runtime.providers import CPU, Execution
from service.runtime.session import Session
from service.types import Matrix

Feeds = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A batch, and how many tokens of it are not padding."""

    feeds: Feeds
    tokens: int


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens by the clock, and by CPU time: the second hardly minds what else the machine is doing."""

    per_second: float
    per_cpu_second: float


class Ceiling:
    """Measures what `session.run` alone can do on `threads` cores."""

    def __init__(self, folder: Path, bundle: Bundle, threads: int, execution: Execution = CPU) -> None:
        self._session = Session(folder / MODEL_ONNX, execution, 1)
        self._bundle = bundle
        self._threads = threads

    def tokens(self, texts: Sequence[Text], max_batch_tokens: int, seconds: float) -> Rate:
        """Real tokens, padding not counted, of batches of `texts` in random order, again and again."""
        batches = self._batches(texts, max_batch_tokens)
        turns = [cycle(batches[number :: self._threads] or batches) for number in range(self._threads)]
        with ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(lambda mine: self._run(next(mine)), turns))  # the arena grows outside the time measured
            rates = list(pool.map(lambda mine: self._rate(mine, seconds), turns))
        return Rate(sum(rate.per_second for rate in rates), statistics.fmean(rate.per_cpu_second for rate in rates))

    def latencies(self, texts: Sequence[Text], seconds: float) -> list[float]:
        """Seconds of each `session.run`, one text at a time, on one core."""
        found = []
        end = time.perf_counter() + seconds
        for text in cycle(texts):
            batch = self._ready([text])
            started = time.perf_counter()
            self._run(batch)
            found.append(time.perf_counter() - started)
            if time.perf_counter() >= end:
                break
        return found

    def vectors(self, texts: Sequence[Text]) -> Matrix:
        """(texts, dimensions), each text run alone."""
        return np.concatenate([self._run(self._ready([text])) for text in texts])

    def _rate(self, batches: Iterator[_Ready], seconds: float) -> Rate:
        started = now = time.perf_counter()
        cpu_started = time.thread_time()
        tokens = 0
        while now - started < seconds:
            batch = next(batches)
            self._run(batch)
            tokens += batch.tokens
            now = time.perf_counter()
        return Rate(tokens / (now - started), tokens / (time.thread_time() - cpu_started))

    def _run(self, batch: _Ready) -> Matrix:
        return self._session.run([OUTPUT], batch.feeds)[0]

    def _ready(self, texts: Sequence[Text]) -> _Ready:
        feeds = padded_feeds([text.ids for text in texts], self._bundle.inputs, self._bundle.pad_token_id)
        return _Ready(feeds, sum(len(text.ids) for text in texts))

    def _batches(self, texts: Sequence[Text], max_batch_tokens: int) -> list[_Ready]:
        batches: list[_Ready] = []
        batch: list[Text] = []
        for text in sorted(texts, key=lambda text: len(text.ids)):
            if batch and (len(batch) + 1) * len(text.ids) > max_batch_tokens:
                batches.append(self._ready(batch))
                batch = []
            batch.append(text)
        batches.append(self._ready(batch))
        random.Random(0).shuffle(batches)
        return batches
