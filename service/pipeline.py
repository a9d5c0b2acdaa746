"""The whole path of a request, one method a step:

    inputs → texts → tokenise → chunk → queue → pack a batch → session.run → aggregate → dimensions → vectors

The dialects in `service.api` stand before and after it; `batcher` and `encoder` do the middle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise

import numpy as np

from service import cl100k
from service.batcher import Batcher, Outcome
from service.bundle import Bundle
from service.chunking import aggregate, late_vectors
from service.errors import DimensionsUnsupported, EmptyInput, InvalidInput, TooManyTokens
from service.long_input import Cut, Rules, cut, rules_of
from service.postprocess import normalize, shorten
from service.settings import ModelSettings
from service.tokenizer import Piece, Tokenizer
from service.types import (
    Aggregation,
    Chunks,
    EmbedRequest,
    EmbedResult,
    Encoding,
    Input,
    LongInput,
    Matrix,
    TokenIds,
    TokenResult,
    Vector,
    Wishes,
)
from service.workers import Workers

# Texts of this many characters, or token ids, together are tokenised beside the event loop (about 1 ms of work), so
# that health checks and short requests do not wait for them.
_OFF_LOOP_CHARACTERS = 5_000
# Of what requests wish for, which is nearly always the same.
_RULES_KEPT = 64


class Embedder:
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
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._token_batcher = token_batcher
        self._workers = workers
        self._settings = settings
        self._max_tokens = max_tokens
        self._rules = lru_cache(_RULES_KEPT)(self._make_rules)

    async def embed(self, request: EmbedRequest, deadline: float | None = None) -> EmbedResult:
        """Raises InvalidInput, InputTooLong, TooManyTokens, TooManyChunks, DimensionsUnsupported, and what
        Batcher.submit raises."""
        self._check_dimensions(request.dimensions)
        rules = self._rules(request.wishes)
        cuts = await self._prepare(request, rules, deadline)
        ran = await self._run(cuts, deadline)
        vectors = _stacked(ran.results)
        return EmbedResult(
            self._finished(_combined(vectors, cuts, rules.aggregation), request),
            [one.tokens for one in cuts],
            [one.truncated for one in cuts],
            sum(len(one.rows) for one in cuts),
            ran.computed_tokens,
            self._chunks(vectors, cuts, request) if rules.return_chunks else (),
            [one.late for one in cuts] if rules.late else (),
        )

    async def embed_tokens(self, request: EmbedRequest, deadline: float | None = None) -> TokenResult:
        """The last hidden state of each input. One that is too long is cut or refused: windows do not see each
        other, so their vectors would not be those of one text. Raises as `embed`."""
        if (request.long_input or self._settings.long_input) is LongInput.CHUNK:
            request = request._replace(long_input=LongInput.REJECT)
        cuts = await self._prepare(request, self._rules(request.wishes), deadline)
        ran = await self._token_batcher.submit([row for one in cuts for row in one.rows], deadline)
        tokens, truncated = [one.tokens for one in cuts], [one.truncated for one in cuts]
        return TokenResult(ran.results, tokens, truncated, len(cuts), ran.computed_tokens)

    def prompt(self, name: str | None) -> str:
        """The prompt of that name; the model's default for None. Raises InvalidInput listing those there are."""
        name = self.bundle.default_prompt_name if name is None else name
        if name is None:
            return ""
        try:
            return self.bundle.prompts[name]
        except KeyError:
            known = ", ".join(sorted(self.bundle.prompts)) or "none"
            raise InvalidInput(f"The model has no prompt {name!r}; it has: {known}.", "prompt_name") from None

    async def tokenize(self, texts: Sequence[str], prompt: str, add_special_tokens: bool) -> list[list[Piece]]:
        """What the model reads of each text, uncut. Raises TooManyTokens."""
        joined = [prompt + text for text in texts]
        size = sum(map(len, joined))
        return await self._workers.run(
            lambda _: self._tokenizer.pieces(joined, add_special_tokens, self._max_tokens), size
        )

    async def decode(self, ids: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """Texts of the model's own token ids. Raises InvalidInput, TooManyTokens."""
        total = sum(map(len, ids))
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)
        return await self._workers.run(
            lambda _: [self._tokenizer.decode(one, skip_special_tokens) for one in ids], total
        )

    # --- before the queue -------------------------------------------------------------------------------------

    def _text_of(self, one: Input) -> str:
        """What will be tokenised. Token ids become text again; natively meant ones stay ids."""
        if isinstance(one.content, str):
            if self._settings.strict and not one.content.strip():
                raise EmptyInput("An input is empty, and this model is set to be strict.", "input")
            return one.content
        if self._settings.token_ids is TokenIds.REJECT:
            raise InvalidInput("This model takes texts, not token ids.", "input")
        return cl100k.decode(one.content) if self._settings.token_ids is TokenIds.CL100K_BASE else ""

    def _make_rules(self, wishes: Wishes) -> Rules:
        around = self._tokenizer.prefix, self._tokenizer.suffix
        return rules_of(wishes, self._settings, self.bundle, *around)

    async def _prepare(self, request: EmbedRequest, rules: Rules, deadline: float | None) -> list[Cut]:
        size = ids = 0
        for one in request.inputs:
            size += len(one.content)
            if not isinstance(one.content, str):
                ids += len(one.content)
        if ids > self._max_tokens:
            raise TooManyTokens(self._max_tokens, ids)
        if size > _OFF_LOOP_CHARACTERS:
            return await self._workers.run(lambda ticket: self._cut(request, rules, ticket.check), size, deadline)
        return self._cut(request, rules)

    def _cut(self, request: EmbedRequest, rules: Rules, check: Callable[[], None] = lambda: None) -> list[Cut]:
        """Tokenise, count, chunk. Pure computation: runs on the loop; or beside it, until `check` raises."""
        texts = [self._text_of(one) for one in request.inputs]
        encodings = self._encode(request.inputs, texts, rules, check)
        cuts = []
        room = rules.max_chunks  # of which inputs that are not cut take none
        for encoding, text in zip(encodings, texts, strict=True):
            check()
            cuts.append(one := cut(encoding, text, rules, room))
            room -= len(one.chunks) if len(one.chunks) > 1 else 0
        if room < rules.max_chunks:
            self._check_repeated(cuts)
        return cuts

    def _check_repeated(self, cuts: Sequence[Cut]) -> None:
        """What several chunks of an input hold alike, prompt and overlap, is computed as often, and so it counts."""
        total = sum(len(row) - self._tokenizer.special_tokens for one in cuts for row in one.rows)
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)

    def _encode(
        self, inputs: Sequence[Input], texts: Sequence[str], rules: Rules, check: Callable[[], None]
    ) -> list[Encoding]:
        prompts = [one.prompt for one in inputs]
        # Only with offsets is it known which tokens are the prompt's.
        exactly = rules.return_chunks and any(prompts)
        window = 0 if exactly else rules.window.size
        encodings = self._tokenizer.encode(texts, prompts, window, self._max_tokens, check)
        if self._settings.token_ids is TokenIds.NATIVE:
            for i, one in enumerate(inputs):
                if not isinstance(one.content, str):
                    encodings[i] = self._tokenizer.adopt(one.content, encodings[i])
            total = sum(len(encoding.ids) + self._tokenizer.special_tokens for encoding in encodings)
            if total > self._max_tokens:
                raise TooManyTokens(self._max_tokens, total)
        return encodings

    def _check_dimensions(self, requested: int | None) -> None:
        if requested is None:
            return
        own = self.bundle.dimensions
        allowed = (*self.bundle.matryoshka_dimensions, own)
        if requested in allowed:
            return
        if self._settings.allow_dimensions != "any" or not 1 <= requested <= own:
            raise DimensionsUnsupported(requested, allowed)

    # --- through it, and after it -----------------------------------------------------------------------------

    async def _run(self, cuts: Sequence[Cut], deadline: float | None) -> Outcome:
        """One vector a chunk, in order. Late chunks are made of the token vectors of their input."""
        rows = [row for one in cuts if not one.is_one_row for row in one.rows]
        late = [one for one in cuts if one.is_one_row]
        if not late:
            return await self._batcher.submit(rows, deadline)
        states = await self._token_batcher.submit([row for one in late for row in one.rows], deadline)
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

    def _finished(self, vectors: Matrix, request: EmbedRequest) -> Matrix:
        if request.normalize and not self.bundle.normalized:
            vectors = normalize(vectors)
        return shorten(vectors, request.dimensions)

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


def _combined(vectors: Matrix, cuts: Sequence[Cut], aggregation: Aggregation) -> Matrix:
    """One row a chunk → one an input (inputs, dimensions). That of an only chunk stays as it is."""
    if len(vectors) == len(cuts):
        return vectors
    return np.stack(
        [
            mine[0] if len(mine) == 1 else aggregate(mine, [chunk.token_count for chunk in one.chunks], aggregation)
            for one, mine in _per_input(vectors, cuts)
        ]
    )
