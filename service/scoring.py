"""The path of a request for scores, as `pipeline` is that of one for embeddings:

    pairs → tokenise → windows of the second text → queue → pack a batch → session.run → best window → scores

Every row of a pair holds the whole first text (the query) and a window of the second (the document).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import accumulate, pairwise

import numpy as np

from service.bundle import Activation
from service.choices import Aggregation, LongInput, TruncationSide
from service.chunking import weights
from service.errors import BundleError, EmptyInput, InputTooLong, InvalidInput, TooManyTokens
from service.long_input import Cut, Rules, cut, rules_of
from service.reader import OFF_LOOP_CHARACTERS, RULES_KEPT, Reader
from service.spending import spend
from service.tokenizer import size_of
from service.tracing import AGGREGATE, TOKENISE, enter
from service.types import (
    Chunk,
    Encoding,
    Matrix,
    Pair,
    PairTemplate,
    ScoreRequest,
    ScoreResult,
    TwoPartRow,
    Vector,
    Wishes,
)


class Scorer(Reader):
    """One cross-encoder or classifier: everything between a dialect and the scores."""

    async def score(self, request: ScoreRequest, deadline: float | None = None) -> ScoreResult:
        """Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, and what Batcher.submit raises."""
        enter(TOKENISE)
        size = sum(size_of(one.first) + size_of(one.second or "") for one in request.inputs)
        if size > OFF_LOOP_CHARACTERS:
            cuts = await self._workers.run(lambda ticket: self._cut_all(request, ticket.check), size, deadline)
        else:
            cuts = self._cut_all(request)
        spend(sum([one.tokens for one in cuts]))
        ran = await self._batcher.submit([row for one in cuts for row in one.rows], deadline)
        enter(AGGREGATE)
        return ScoreResult(
            self._combined(np.stack(ran.results), cuts, request),
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            sum(len(one.rows) for one in cuts),
            ran.computed_tokens,
        )

    def scores(self, logits: Matrix, *, raw: bool | None = None) -> Matrix:
        """What the model's authors make of logits; the logits themselves, or what is between 0 and 1, where it is
        said whether they should be `raw`."""
        if raw:
            return logits
        return activate(logits, self.bundle.activation if raw is None else self.bundle.probabilities)

    # --- before the queue -------------------------------------------------------------------------------------

    def _cut_all(self, request: ScoreRequest, check: Callable[[], None] = lambda: None) -> list[Cut]:
        """Tokenise, count, cut into windows. Pure computation: runs on the loop; or beside it, until `check` raises."""
        window = self._narrowest(request)
        firsts = self._encoded([one.first for one in request.inputs], window, check)
        beside = window - max(len(one.ids) for one in firsts.values())
        seconds = self._encoded([one.second for one in request.inputs if one.second is not None], beside, check)
        self._check_total(request.inputs, firsts, seconds)
        cuts = []
        room = self.settings.max_chunks  # of which inputs that are not cut take none
        for one in request.inputs:
            check()
            second = None if one.second is None else seconds[one.second]
            cuts.append(found := self._cut_one(one, firsts[one.first], second, request, room))
            room -= len(found.chunks) if len(found.chunks) > 1 else 0
        if (total := sum(len(row) for one in cuts for row in one.rows)) > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)
        return cuts

    def _narrowest(self, request: ScoreRequest) -> int:
        """Tokens that the narrowest row of the request has room for, between its special ones."""
        return min(self._rules_for(one, request).window.size for one in request.inputs)

    def _rules_for(self, pair: Pair, request: ScoreRequest) -> Rules:
        return self._rules(request.wishes) if pair.second is None else self._pair_rules(request.wishes)

    def _encoded(self, texts: Sequence[str], window: int, check: Callable[[], None]) -> dict[str, Encoding]:
        """Each of them once; with the places of their tokens where they do not fit the window."""
        if self.settings.strict and not all(text.strip() for text in texts):
            raise EmptyInput("An input is empty, and this model is set to be strict.", "input")
        once = list(dict.fromkeys(texts))
        found = self._tokenizer.encode(once, [""] * len(once), window, self._max_tokens, check)
        return dict(zip(once, found, strict=True))

    def _check_total(
        self, inputs: Sequence[Pair], firsts: Mapping[str, Encoding], seconds: Mapping[str, Encoding]
    ) -> None:
        """A query is read once for each of its documents, and so it counts."""
        total = sum(len(firsts[one.first].ids) for one in inputs)
        total += sum(len(seconds[one.second].ids) for one in inputs if one.second is not None)
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)

    def _cut_one(self, pair: Pair, first: Encoding, second: Encoding | None, request: ScoreRequest, room: int) -> Cut:
        if second is None or pair.second is None:
            return cut(first, pair.first, self._rules(request.wishes), room)
        rules = self._pair_rules(request.wishes)
        capped = _head(second, request.max_second_tokens)
        found = self._cut_pair(first, capped, pair.second, rules, room)
        if request.max_windows is not None and len(found.chunks) > request.max_windows:
            found = found._replace(chunks=found.chunks[: request.max_windows], truncated=True)
        if capped is not second:
            found = found._replace(tokens=found.tokens + len(second.ids) - len(capped.ids), truncated=True)
        return found

    def _cut_pair(self, first: Encoding, second: Encoding, text: str, rules: Rules, room: int) -> Cut:
        """Raises InputTooLong, TooManyChunks, and InvalidInput where the first text leaves no room for the second."""
        lengths = len(first.ids), len(second.ids)
        readable = rules.window.size
        tokens = sum(lengths) + rules.special_tokens
        if rules.policy is LongInput.TRUNCATE and sum(lengths) > readable:
            if rules.max_input_tokens is not None and tokens > rules.max_input_tokens:
                raise InputTooLong(rules.max_input_tokens, tokens)
            kept = longest_first(*lengths, readable)
            ids = [_end(one.ids, size, rules.side) for one, size in zip((first, second), kept, strict=True)]
            return Cut([Chunk(self._row(*ids), kept[1], None)], tokens, truncated=True)
        if rules.policy is LongInput.REJECT and sum(lengths) > readable:
            raise InputTooLong(readable + rules.special_tokens, tokens)
        if lengths[0] >= readable and sum(lengths) > readable:
            most = readable - 1
            raise InvalidInput(
                f"The first text (the query) has {lengths[0]} tokens; with more than {most} no text fits beside it.",
                "query",
            )
        found = cut(second, text, _beside(first, rules), room)
        return found._replace(chunks=[self._with_first(first, chunk) for chunk in found.chunks])

    def _with_first(self, first: Encoding, chunk: Chunk) -> Chunk:
        return chunk._replace(row=self._row(first.ids, chunk.row))

    def _row(self, first: Sequence[int], second: Sequence[int]) -> TwoPartRow:
        """Ids of both texts → what the model reads."""
        before = [*self._template.prefix, *first, *self._template.middle]
        return TwoPartRow([*before, *second, *self._template.suffix], len(before))

    @cached_property
    def _template(self) -> PairTemplate:
        """Raises InvalidInput."""
        try:
            return self._tokenizer.pair
        except BundleError as error:
            raise InvalidInput(f"The model reads no pairs of texts: {error.message}.") from error

    @cached_property
    def _pair_rules(self) -> Callable[[Wishes], Rules]:
        return lru_cache(RULES_KEPT)(self._make_pair_rules)

    def _make_pair_rules(self, wishes: Wishes) -> Rules:
        """What the first texts leave is not known yet; windows are of the second texts' ids alone."""
        template = self._template
        around = (*template.prefix, *template.middle, *template.suffix)
        rules = rules_of(wishes, self.settings, self.bundle, around, ())
        aggregation = wishes.chunking.aggregation
        if aggregation is None and self.bundle.dimensions == 1:
            aggregation = Aggregation.MAX
        return replace(rules, window=replace(rules.window, prefix=()), aggregation=aggregation or rules.aggregation)

    # --- after it ---------------------------------------------------------------------------------------------

    def _combined(self, logits: Matrix, cuts: Sequence[Cut], request: ScoreRequest) -> Matrix:
        """One row a window → one an input (inputs, labels)."""
        if len(logits) == len(cuts):
            return logits
        edges = accumulate((len(one.chunks) for one in cuts), initial=0)
        return np.stack(
            [
                self._of_windows(logits[start:stop], one, pair, request)
                for one, pair, (start, stop) in zip(cuts, request.inputs, pairwise(edges), strict=True)
            ]
        )

    def _of_windows(self, logits: Matrix, found: Cut, pair: Pair, request: ScoreRequest) -> Vector:
        """(windows, labels) → (labels,). A document is as good as its best window (MaxP, arXiv:1905.09217); where
        there are several labels, or no query, the logits' mean weighted by tokens, or as was asked for."""
        rules = self._rules_for(pair, request)
        if rules.aggregation is Aggregation.MAX:
            best: Vector = logits.max(axis=0)
            return best
        counts = [chunk.token_count for chunk in found.chunks]
        mean: Vector = (weights(counts, rules.aggregation) @ logits).astype(np.float32)
        return mean


def longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Tokens of each text that are kept where both together have more than `room`: the longer one loses until they
    are of a length, then both. Of an odd number the text that was longer, or else the second, keeps one more."""
    shorter = min(first, second)
    kept = (shorter, room - shorter) if 2 * shorter <= room else (room // 2, room - room // 2)
    return kept if first <= second else (kept[1], kept[0])


def activate(logits: Matrix, activation: Activation) -> Matrix:
    """(inputs, labels) → the same shape; `service.bundle.Activation` has the formulas."""
    wide = logits.astype(np.float64)
    if activation == "sigmoid":
        power = np.exp(-np.abs(wide))  # of a negative number, so that it overflows on neither side
        each: Matrix = (np.where(wide >= 0, 1, power) / (1 + power)).astype(np.float32)
        return each
    if activation == "softmax":
        powers = np.exp(wide - wide.max(axis=1, keepdims=True))
        shares: Matrix = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
        return shares
    return logits


def _beside(first: Encoding, rules: Rules) -> Rules:
    """What is left to the second text. An overlap that was set for larger windows must not fail a request."""
    size = rules.window.size - len(first.ids)
    window = replace(rules.window, size=size, overlap=min(rules.window.overlap, size // 2))
    return replace(rules, window=window, special_tokens=rules.special_tokens + len(first.ids))


def _head(encoding: Encoding, most: int | None) -> Encoding:
    if most is None or len(encoding.ids) <= most:
        return encoding
    return Encoding(encoding.ids[:most], 0, encoding.starts[:most], encoding.ends[:most])


def _end(ids: Sequence[int], size: int, side: TruncationSide) -> Sequence[int]:
    return ids[:size] if side is TruncationSide.RIGHT else ids[len(ids) - size :]
