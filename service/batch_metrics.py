"""Metrics of one batcher."""

from __future__ import annotations

from collections.abc import Callable

from service import metrics
from service.batch import Batch, tokens_of


class BatchMetrics:
    """A model's label children, looked up once."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._wait = metrics.QUEUE_SECONDS.labels(model)
        self._inference = metrics.INFERENCE_SECONDS.labels(model)
        self._tokens = metrics.BATCH_TOKENS.labels(model)
        self._rows = metrics.BATCH_ROWS.labels(model)
        self._computed = metrics.COMPUTED_TOKENS.labels(model)
        self._padding = metrics.PADDING_TOKENS.labels(model)
        self._ratio = metrics.PADDING_RATIO.labels(model)
        self._failed = metrics.FAILED_BATCHES.labels(model)
        self._deduplicated = metrics.DEDUPLICATED_ROWS.labels(model)
        self._hits = metrics.CACHE_HITS.labels(model)
        self._misses = metrics.CACHE_MISSES.labels(model)
        self._evictions = metrics.CACHE_EVICTIONS.labels(model)

    def started(self, batch: Batch) -> None:
        """Its rows have left the queue, those of a failed batch once."""
        for row in batch.rows:
            if not row.has_started:
                self._wait.observe(batch.started_at - row.queued_at)

    def finished(self, batch: Batch, seconds: float) -> None:
        """`seconds` on its executor."""
        tokens = batch.tokens
        padding = tokens - tokens_of(batch.rows)
        self._inference.observe(seconds)
        self._tokens.observe(tokens)
        self._rows.observe(len(batch.rows))
        self._computed.inc(tokens)
        self._padding.inc(padding)
        self._ratio.observe(padding / tokens)

    def failed(self) -> None:
        """The runtime failed on a batch."""
        self._failed.inc()

    def dropped(self, reason: str, rows: int) -> None:
        """They never ran."""
        metrics.DROPPED.labels(self._model, reason).inc(rows)

    def unclaimed(self, reason: str) -> None:
        """One ran for nobody."""
        metrics.UNCLAIMED.labels(self._model, reason).inc()

    def deduplicated(self, rows: int) -> None:
        """The like of them waited or ran already."""
        self._deduplicated.inc(rows)

    def recalled(self, hits: int, misses: int) -> None:
        """Rows that were looked for in the cache."""
        self._hits.inc(hits)
        self._misses.inc(misses)

    def evicted(self, entries: int) -> None:
        """They had to go from the cache."""
        self._evictions.inc(entries)

    def watch(self, tokens: Callable[[], int], entries: Callable[[], int], running: Callable[[], int]) -> None:
        """Of the queue, whenever it is asked for."""
        metrics.QUEUE_TOKENS.labels(self._model).set_function(tokens)
        metrics.QUEUE_ENTRIES.labels(self._model).set_function(entries)
        metrics.RUNNING_BATCHES.labels(self._model).set_function(running)
