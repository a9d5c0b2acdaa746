"""The whole path of a request, one method a step:

    inputs → texts → tokenise → chunk → queue → pack a batch → session.run → aggregate → dimensions → vectors

The dialects in `service.api` stand before and after it; `reader` does the first steps, up to the queue, for every kind
of model; `batcher` and `encoder` do the middle.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise

import numpy as np

from service.batch import Outcome
from service.batcher import Batcher
from service.bundle import Bundle
from service.choices import Aggregation, LongInput
from service.chunking import aggregate, late_vectors
from service.long_input import Cut, Rules
from service.postprocess import normalize, shorten
from service.reader import Reader
from service.settings import ModelSettings
from service.tokenizer import Tokenizer
from service.tracing import AGGREGATE, enter
from service.types import Chunks, EmbedRequest, EmbedResult, Matrix, TokenResult, Vector
from service.workers import Workers


class Embedder(Reader):
    """One model: everything between a dialect and the vectors."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        batcher: Batcher,
        token_batcher: Batcher,
        workers: Workers,
        settings: ModelSettings,
        max_tokens: int,
    ) -> None:
        """`max_tokens` is the limit for all inputs of one request together."""
        super().__init__(bundle, tokenizer, batcher, workers, settings, max_tokens)
        self._token_batcher = token_batcher

    async def embed(self, request: EmbedRequest, deadline: float | None = None) -> EmbedResult:
        """Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, DimensionsUnsupported, and what
        Batcher.submit raises."""
        rules = self._rules_of(request)
        cuts = await self._prepare(request.inputs, [rules] * len(request.inputs), deadline)
        ran = await self._run(cuts, deadline)
        enter(AGGREGATE)
        return self._result(request, rules, cuts, ran)

    async def embed_each(self, requests: Sequence[EmbedRequest], deadline: float | None = None) -> list[EmbedResult]:
        """One client's request whose inputs want different things: to the limits it is one, and it runs as one.

        What was computed stands with the first of the results. Raises as `embed`.
        """
        rules = [self._rules_of(one) for one in requests]
        inputs = [one for request in requests for one in request.inputs]
        of_each = [its for request, its in zip(requests, rules, strict=True) for _ in request.inputs]
        cuts = await self._prepare(inputs, of_each, deadline)
        ran = await self._run(cuts, deadline)
        enter(AGGREGATE)
        return self._results(requests, rules, cuts, ran)

    async def embed_tokens(self, request: EmbedRequest, deadline: float | None = None) -> TokenResult:
        """The last hidden state of each input. One that is too long is cut or refused: windows do not see each
        other, so their vectors would not be those of one text. Raises as `embed`."""
        if (request.long_input or self.settings.long_input) is LongInput.CHUNK:
            request = request._replace(long_input=LongInput.REJECT)
        rules = [self._rules(request.wishes)] * len(request.inputs)
        cuts = await self._prepare(request.inputs, rules, deadline)
        ran = await self._token_batcher.submit([row for one in cuts for row in one.rows], deadline)
        tokens, truncated = [one.tokens for one in cuts], [one.truncated for one in cuts]
        return TokenResult(ran.results, tokens, truncated, len(cuts), ran.computed_tokens)

    def _rules_of(self, request: EmbedRequest) -> Rules:
        self._check_dimensions(request.dimensions)
        return self._rules(request.wishes)

    # --- through it, and after it -----------------------------------------------------------------------------

    async def _run(self, cuts: Sequence[Cut], deadline: float | None) -> Outcome:
        """One vector a chunk, in order. Late chunks are made of the token vectors of their input."""
        late = [one for one in cuts if one.is_one_row]
        if not late:
            return await self._batcher.submit([row for one in cuts for row in one.rows], deadline)
        states = await self._token_batcher.submit([row for one in late for row in one.rows], deadline)
        rows = [row for one in cuts if not one.is_one_row for row in one.rows]
        usual = await self._batcher.submit(rows, deadline) if rows else Outcome([], 0)
        from_states = map(self._late_vectors, late, states.results)
        vectors = iter(usual.results)
        results = [
            vector
            for one in cuts
            for vector in (next(from_states) if one.is_one_row else [next(vectors) for _ in one.chunks])
        ]
        return Outcome(results, states.computed_tokens + usual.computed_tokens)

    def _late_vectors(self, one: Cut, states: Matrix) -> Matrix:
        vectors = late_vectors(states, [chunk.part for chunk in one.chunks if chunk.part])
        return normalize(vectors) if self.bundle.normalized else vectors

    def _results(
        self, requests: Sequence[EmbedRequest], rules: Sequence[Rules], cuts: Sequence[Cut], ran: Outcome
    ) -> list[EmbedResult]:
        all_cuts, vectors, computed = iter(cuts), iter(ran.results), ran.computed_tokens
        results = []
        for request, its_rules in zip(requests, rules, strict=True):
            own = list(islice(all_cuts, len(request.inputs)))
            of_chunks = list(islice(vectors, sum([len(one.chunks) for one in own])))
            results.append(self._result(request, its_rules, own, Outcome(of_chunks, computed)))
            computed = 0
        return results

    def _result(self, request: EmbedRequest, rules: Rules, cuts: Sequence[Cut], ran: Outcome) -> EmbedResult:
        vectors = _stacked(ran.results)
        return EmbedResult(
            self._finished(_combined(vectors, cuts, rules.aggregation, self.bundle.normalized), request),
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            sum([one.row_count for one in cuts]),
            ran.computed_tokens,
            self._chunks(vectors, cuts, request) if rules.return_chunks else (),
            [one.late for one in cuts] if rules.late else (),
        )

    def _finished(self, vectors: Matrix, request: EmbedRequest) -> Matrix:
        """Vectors of a model that does not normalise have lengths that mean something, unless the request says."""
        unit = request.normalize or self.bundle.normalized
        if request.normalize and not self.bundle.normalized:
            vectors = normalize(vectors)
        return shorten(vectors, request.dimensions, unit=bool(unit))

    def _chunks(self, vectors: Matrix, cuts: Sequence[Cut], request: EmbedRequest) -> list[Chunks]:
        return [
            Chunks([chunk.span for chunk in one.chunks], [chunk.token_count for chunk in one.chunks], mine)
            for one, mine in _per_input(self._finished(vectors, request), cuts)
        ]


def _stacked(vectors: Sequence[Vector]) -> Matrix:
    """One row a chunk. For a single one, which is the usual case, numpy's own way is dear."""
    return vectors[0][np.newaxis] if len(vectors) == 1 else np.stack(vectors)


def _per_input(vectors: Matrix, cuts: Sequence[Cut]) -> Iterator[tuple[Cut, Matrix]]:
    """One row a chunk → one matrix (chunks, dimensions) an input."""
    edges = accumulate((len(one.chunks) for one in cuts), initial=0)
    for one, (start, stop) in zip(cuts, pairwise(edges), strict=True):
        yield one, vectors[start:stop]


def _combined(vectors: Matrix, cuts: Sequence[Cut], aggregation: Aggregation, unit: bool) -> Matrix:
    """One row a chunk → one an input (inputs, dimensions). That of an only chunk stays as it is."""
    if len(vectors) == len(cuts):
        return vectors
    return np.stack(
        [
            mine[0]
            if len(mine) == 1
            else aggregate(mine, [chunk.token_count for chunk in one.chunks], aggregation, unit=unit)
            for one, mine in _per_input(vectors, cuts)
        ]
    )
