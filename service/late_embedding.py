"""The path of a request for vectors of tokens to be compared late (ColBERT), as `pipeline` is that for embeddings:

inputs → texts → tokenise → cut or chunk → fill queries up → queue → pack a batch → session.run → skip → join
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from service.bundle import LateInteraction, Role
from service.choices import Aggregation, LongInput
from service.errors import InvalidInput
from service.long_input import Rules
from service.postprocess import shorten
from service.reader import Reader
from service.tracing import AGGREGATE, enter
from service.types import Chunking, EmbedRequest, Matrix, TokenResult, TwoPartRow


class LateEmbedder(Reader):
    """One model of vectors of tokens: everything between a dialect and the vectors. The batcher gives a vector for each
    token of a row."""

    @cached_property
    def _late(self) -> LateInteraction:
        assert self.bundle.late_interaction is not None  # Bundle sees to it
        return self.bundle.late_interaction

    @cached_property
    def _skipped(self) -> NDArray[np.int64]:
        return np.array(self._late.skipped_tokens, np.int64)

    def role_prompt(self, role: Role) -> str:
        """What goes before a text of that kind."""
        return self.bundle.prompts.get(role, "")

    async def embed(self, request: EmbedRequest, role: Role, deadline: float | None = None) -> TokenResult:
        """One vector for each token that counts. A document that is too long is read in windows, whose vectors stand
        one after another; of a query what is too long is cut off, or it is refused.

        Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, DimensionsUnsupported, and what Batcher.submit
        raises.
        """
        self._check_dimensions(request.dimensions)
        if request.chunking.aggregation not in (None, Aggregation.FIRST):
            raise InvalidInput("Vectors of tokens are not combined: they stand one after another.", "chunking")
        if role == "query":
            request = self._uncut(request)
        rules = [self._rules_for(request, role)] * len(request.inputs)
        cuts = await self._prepare(request.inputs, rules, deadline)
        rows = [row for one in cuts for row in one.rows]
        ran = await self._batcher.submit([self._filled(row) for row in rows] if role == "query" else rows, deadline)
        enter(AGGREGATE)
        parts = iter(self._counted(states, row, role) for states, row in zip(ran.results, rows, strict=True))
        joined = [_joined([next(parts) for _ in one.rows]) for one in cuts]
        return TokenResult(
            [shorten(states, request.dimensions, unit=self.bundle.normalized) for states in joined],
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            len(rows),
            ran.computed_tokens,
        )

    def _uncut(self, request: EmbedRequest) -> EmbedRequest:
        if request.chunking != Chunking() or request.late or request.long_input is LongInput.CHUNK:
            raise InvalidInput("A query is read as a whole; what is too long is cut off or refused.", "input")
        policy = request.long_input or self.settings.long_input
        return request._replace(long_input=LongInput.TRUNCATE if policy is LongInput.CHUNK else policy)

    def _rules_for(self, request: EmbedRequest, role: Role) -> Rules:
        """Those of any request, with room for no more than texts of that kind have."""
        rules = self._rules(request.wishes)
        length = self._late.query_length if role == "query" else self._late.document_length
        size = min(rules.window.size, length - rules.special_tokens)
        return replace(rules, window=replace(rules.window, size=size))

    def _filled(self, row: Sequence[int]) -> Sequence[int]:
        """A query as the model reads it."""
        expansion = self._late.expansion
        if expansion is None or len(row) >= expansion.length:
            return row
        whole = [*row, *[expansion.token_id] * (expansion.length - len(row))]
        return whole if expansion.attended else TwoPartRow(whole, len(row))

    def _counted(self, states: Matrix, row: Sequence[int], role: Role) -> Matrix:
        """The vectors of tokens that are compared; what fills a query up is among them."""
        if role not in self._late.skipped_in or not len(self._skipped):
            return states
        kept = np.ones(len(states), np.bool_)
        kept[: len(row)] = ~np.isin(np.asarray(row), self._skipped)
        return states[kept]


def _joined(parts: Sequence[Matrix]) -> Matrix:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
