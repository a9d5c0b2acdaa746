"""One loaded model. The only place that assembles one from its parts, and joins a batcher to an encoder."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from service import metrics
from service.batch import Results, Rows
from service.batcher import Batcher
from service.bundle import OUTPUTS, TOKEN_OUTPUT, Bundle, Task
from service.bundle_files import BundleFiles
from service.cache import Cache
from service.cores import usable_cores
from service.device import Device
from service.errors import Overloaded, WrongTask
from service.expected_tokens import ExpectedTokens
from service.late_embedding import LateEmbedder
from service.opening import Parts
from service.pipeline import Embedder
from service.reader import Reader
from service.scheduling import Share
from service.scoring import Scorer
from service.settings import ServedModel
from service.sparse_embedding import SparseEmbedder, sparsely
from service.usage import Usage
from service.workers import Workers

_CHARACTERS_PER_TOKEN = 4  # of English, about

# Task → what such a model is called, and where it answers.
_KINDS: dict[Task, tuple[str, str]] = {
    "embedding": ("an embedding model", "/v1/embeddings and the other routes of embeddings"),
    "sparse": ("a model of sparse embeddings", "/embed_sparse"),
    "tokens": ("a model of vectors of tokens", "/v1/multi-vector and /embed_all"),
    "score": ("a reranker or a classifier", "/v1/rerank, /v2/rerank, /rerank, /score and /predict"),
}
_Kind = TypeVar("_Kind", bound=Reader)
Run = Callable[[Rows], Results]


@dataclass(frozen=True, slots=True)
class Model:
    """One loaded model; `created` in Unix seconds."""

    name: str
    aliases: tuple[str, ...]
    created: int
    bundle: Bundle
    files: BundleFiles
    reader: Reader  # what answers for the bundle's task
    batchers: tuple[Batcher, ...]
    workers: Workers
    max_batch_tokens: int  # that batches are planned for
    usage: Usage = field(default_factory=Usage)  # of requests that have it
    expected: ExpectedTokens = field(default_factory=ExpectedTokens)  # of its main output's routes

    @property
    def embedder(self) -> Embedder:
        """Raises WrongTask."""
        return self._as(Embedder, "embeddings")

    @property
    def sparse_embedder(self) -> SparseEmbedder:
        """Raises WrongTask."""
        return self._as(SparseEmbedder, "sparse vectors")

    @property
    def late_embedder(self) -> LateEmbedder:
        """Raises WrongTask."""
        return self._as(LateEmbedder, "vectors of tokens")

    @property
    def scorer(self) -> Scorer:
        """Raises WrongTask."""
        return self._as(Scorer, "scores")

    @property
    def ranker(self) -> Scorer:
        """A scorer of one label, which is the relevance. Raises WrongTask."""
        scorer = self._as(Scorer, "ranking")
        if self.bundle.dimensions != 1:
            raise WrongTask(self.name, "a classifier", "ranking", "/predict")
        return scorer

    @property
    def is_overloaded(self) -> bool:
        """Whether it has just refused requests for the work that is queued."""
        return self.batchers[0].is_overloaded

    def turns_away(self, route: str, size: int) -> bool:
        """Whether a body of so many bytes need not be read: its request would be refused. Never on a route that it does
        not know."""
        if not self.is_overloaded or not self.expected.knows(route):
            return False
        return self.batchers[0].turns_away(self.expected.most(route, size))

    def refusal(self, route: str, size: int) -> Overloaded:
        """For one that is turned away."""
        return self.batchers[0].refusal(self.expected.of(route, size))

    def stalled_for(self) -> float:
        """Seconds that the slowest of what runs for it has been running."""
        return max(self.workers.stalled_for(), *(one.stalled_for() for one in self.batchers))

    def failing_for(self) -> float | None:
        """Seconds since its runtime began to fail on everything, without end where its files were written to; None
        where it works."""
        return self.batchers[0].failing_for() if self.files.damage is None else math.inf

    async def close(self) -> None:
        """Waits for what it has to do."""
        for batcher in self.batchers:
            await batcher.close()
        await asyncio.to_thread(self.workers.close)

    def _as(self, kind: type[_Kind], asked: str) -> _Kind:
        if isinstance(self.reader, kind):
            return self.reader
        is_a, routes = _KINDS[self.bundle.task]
        raise WrongTask(self.name, is_a, asked, routes)


def assemble(
    parts: Parts, name: str, aliases: Sequence[str], settings: ServedModel, max_tokens: int, device: Device[Any]
) -> Model:
    """Parts → a model that answers, on executors that it shares. `max_tokens` as in Embedder."""
    chosen, encoder = parts.plan, parts.encoder
    budget = chosen.max_batch_tokens
    cache = _cache(name, settings.cache_bytes)
    share = Share(settings.weight)

    def batcher(run: Run, run_lone: Run, output: str, model: str) -> Batcher:
        return Batcher(
            run,
            run_lone,
            model=model,
            device=device,
            share=share,
            max_batch_tokens=budget,
            max_queue_tokens=settings.max_queue_tokens,
            max_queue_seconds=settings.max_queue_seconds,
            cache=cache,
            cache_scope=_scope(parts.bundle, output),
            costs=chosen.costs,
            first_rate=parts.tokens_per_second * device.executors,
            probe=parts.probe if output == OUTPUTS[parts.bundle.task][0] else (),
        )

    bundle, tokenizer = parts.bundle, parts.tokenizer
    workers = Workers(usable_cores(), _CHARACTERS_PER_TOKEN * settings.max_queue_tokens, name)
    runs: tuple[Run, Run] = encoder.run, encoder.run_lone
    if bundle.task == "sparse":
        runs = sparsely(encoder.run), sparsely(encoder.run_lone)
    elif bundle.task == "tokens":
        runs = encoder.run_tokens, encoder.run_lone_tokens
    results = batcher(*runs, OUTPUTS[bundle.task][0], name)
    reader: Reader
    batchers: tuple[Batcher, ...] = (results,)
    if bundle.task == "embedding":
        states = batcher(encoder.run_tokens, encoder.run_tokens, TOKEN_OUTPUT, f"{name} (tokens)")
        reader = Embedder(bundle, tokenizer, results, states, workers, settings, max_tokens)
        batchers = results, states
    elif bundle.task == "sparse":
        reader = SparseEmbedder(bundle, tokenizer, results, workers, settings, max_tokens)
    elif bundle.task == "tokens":
        reader = LateEmbedder(bundle, tokenizer, results, workers, settings, max_tokens)
    else:
        reader = Scorer(bundle, tokenizer, results, workers, settings, max_tokens)
    metrics.MODEL_INFO.forget("model", name)  # of the one that it replaces
    metrics.MODEL_INFO.labels(
        name, bundle.model_id, bundle.precision, bundle.target, bundle.dimensions, bundle.max_seq_length
    ).set(1)
    made = int(time.time())
    model = Model(name, tuple(aliases), made, bundle, parts.files, reader, batchers, workers, budget)
    metrics.FAILING.labels(name).set_function(lambda: float(model.failing_for() is not None))
    return model


def _cache(name: str, max_bytes: int) -> Cache | None:
    """None for 0 bytes."""
    if not max_bytes:
        return None
    cache = Cache(max_bytes)
    metrics.CACHE_BYTES.labels(name).set_function(lambda: cache.size)
    metrics.CACHE_ENTRIES.labels(name).set_function(lambda: len(cache))
    return cache


def _scope(bundle: Bundle, output: str) -> bytes:
    """16 bytes that stand for an output of the very files of a bundle."""
    files = json.dumps([output, sorted(bundle.files.items())])
    return hashlib.sha256(files.encode()).digest()[:16]
