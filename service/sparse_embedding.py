"""The path of a request for sparse vectors, as `pipeline` is that of one for embeddings:

inputs → texts → tokenise → chunk → queue → pack a batch → session.run → the numbers that are not 0 → maximum
"""

from __future__ import annotations

from collections.abc import Callable

from service.batch import Rows
from service.choices import Aggregation
from service.errors import InvalidInput
from service.reader import Reader
from service.sparse_vectors import SparseVector, largest, maximum, sparse_rows
from service.tracing import AGGREGATE, enter
from service.types import EmbedRequest, Matrix, SparseResult


def sparsely(run: Callable[[Rows], Matrix]) -> Callable[[Rows], list[SparseVector]]:
    """`run` with rows made sparse where it runs, so that no whole vocabulary is queued or kept for a row."""
    return lambda rows: sparse_rows(run(rows))


class SparseEmbedder(Reader):
    """One model of sparse vectors: everything between a dialect and the weights. Its batcher gives sparse rows."""

    async def embed(self, request: EmbedRequest, deadline: float | None = None) -> SparseResult:
        """The weights of an input's chunks become its own by their maximum, as those of its tokens do.

        Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, and what Batcher.submit raises.
        """
        if request.chunking.aggregation not in (None, Aggregation.MAX, Aggregation.FIRST):
            raise InvalidInput("Sparse vectors of chunks are combined by max, or the first one is taken.", "chunking")
        rules = [self._rules(request.wishes)] * len(request.inputs)
        cuts = await self._prepare(request.inputs, rules, deadline)
        ran = await self._batcher.submit([row for one in cuts for row in one.rows], deadline)
        enter(AGGREGATE)
        results = iter(ran.results)
        combined = [maximum([next(results) for _ in one.rows]) for one in cuts]
        return SparseResult(
            [largest(one, self.bundle.max_active_dimensions) for one in combined],
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            sum(len(one.rows) for one in cuts),
            ran.computed_tokens,
        )
