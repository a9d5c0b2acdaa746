"""The path of a request for sparse vectors, as `pipeline` is that of one for embeddings:

inputs → texts → tokenise → chunk → queue → pack a batch → session.run → the numbers that are not 0 → maximum
"""

from __future__ import annotations

from collections.abc import Callable

from service.batcher import Batcher, Rows
from service.bundle import Bundle
from service.errors import InvalidInput
from service.reader import Reader
from service.settings import ModelSettings
from service.sparse_vectors import SparseVector, largest, maximum, sparse_rows
from service.tokenizer import Tokenizer
from service.types import Aggregation, EmbedRequest, Matrix, SparseResult
from service.workers import Workers


def sparsely(run: Callable[[Rows], Matrix]) -> Callable[[Rows], list[SparseVector]]:
    """`run` with rows made sparse where it runs, so that no whole vocabulary is queued or kept for a row."""
    return lambda rows: sparse_rows(run(rows))


class SparseEmbedder(Reader):
    """One model of sparse vectors: everything between a dialect and the weights."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        batcher: Batcher,
        workers: Workers,
        settings: ModelSettings,
        max_tokens: int,
    ) -> None:
        """As Reader; `batcher` gives sparse rows."""
        super().__init__(bundle, tokenizer, workers, settings, max_tokens)
        self._batcher = batcher

    async def embed(self, request: EmbedRequest, deadline: float | None = None) -> SparseResult:
        """The weights of an input's chunks become its own by their maximum, as those of its tokens do.

        Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, and what Batcher.submit raises.
        """
        if request.chunking.aggregation not in (None, Aggregation.MAX, Aggregation.FIRST):
            raise InvalidInput("Sparse vectors of chunks are combined by max, or the first one is taken.", "chunking")
        cuts = await self._prepare(request, self._rules(request.wishes), deadline)
        ran = await self._batcher.submit([row for one in cuts for row in one.rows], deadline)
        results = iter(ran.results)
        combined = [maximum([next(results) for _ in one.rows]) for one in cuts]
        return SparseResult(
            [largest(one, self.bundle.max_active_dimensions) for one in combined],
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            sum(len(one.rows) for one in cuts),
            ran.computed_tokens,
        )
