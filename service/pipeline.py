"""The whole path of a request, one method a step:

    inputs → texts → tokenise → chunk → queue → pack a batch → session.run → aggregate → dimensions → vectors

The dialects in `service.api` stand before and after it; `batcher` and `encoder` do the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np

from service import cl100k
from service.batcher import Batcher
from service.bundle import Bundle
from service.chunking import aggregate, split, truncate
from service.errors import DimensionsUnsupported, EmptyInput, InputTooLong, InvalidInput, TooManyTokens
from service.postprocess import normalize, shorten
from service.settings import ModelSettings
from service.tokenizer import Piece, Tokenizer
from service.types import (
    Chunk,
    EmbedRequest,
    EmbedResult,
    Encoding,
    Input,
    LongInput,
    Matrix,
    TokenIds,
    TokenResult,
    Vector,
)

# Texts of this many characters together are tokenised beside the event loop (about 1 ms of work), so that
# health checks and short requests do not wait for them.
_OFF_LOOP_CHARACTERS = 5_000


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The inputs of a request as rows to run; `chunks[i]` belongs to input i."""

    chunks: list[list[Chunk]]
    tokens: list[int]
    truncated: list[bool]

    def rows(self) -> list[Sequence[int]]:
        """Token ids of all chunks, in order."""
        return [chunk.ids for chunks in self.chunks for chunk in chunks]


class Embedder:
    """One model: everything between a dialect and the vectors."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        batcher: Batcher,
        token_batcher: Batcher,
        settings: ModelSettings,
        max_tokens: int,
    ) -> None:
        """`max_tokens` is the limit for all inputs of one request together."""
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._token_batcher = token_batcher
        self._settings = settings
        self._max_tokens = max_tokens

    async def embed(self, request: EmbedRequest, deadline: float | None = None) -> EmbedResult:
        """Raises InvalidInput, InputTooLong, TooManyTokens, DimensionsUnsupported, and what Batcher.submit raises."""
        self._check_dimensions(request.dimensions)
        prepared = await self._prepare(request)
        rows = prepared.rows()
        outcome = await self._batcher.submit(rows, deadline)
        vectors = self._per_input(prepared, outcome.results)
        if request.normalize and not self.bundle.normalized:
            vectors = normalize(vectors)
        return EmbedResult(shorten(vectors, request.dimensions), prepared.tokens, prepared.truncated, len(rows))

    async def embed_tokens(self, request: EmbedRequest, deadline: float | None = None) -> TokenResult:
        """The last hidden state of each input. One that is too long is cut or refused: windows do not see each
        other, so their vectors would not be those of one text. Raises as `embed`."""
        if (request.long_input or self._settings.long_input) is LongInput.CHUNK:
            request = replace(request, long_input=LongInput.REJECT)
        prepared = await self._prepare(request)
        states = (await self._token_batcher.submit(prepared.rows(), deadline)).results
        return TokenResult(states, prepared.tokens, prepared.truncated, len(states))

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
        return await asyncio.to_thread(self._tokenizer.pieces, joined, add_special_tokens, self._max_tokens)

    async def decode(self, ids: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """Texts of the model's own token ids. Raises InvalidInput, TooManyTokens."""
        total = sum(map(len, ids))
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)
        return await asyncio.to_thread(lambda: [self._tokenizer.decode(one, skip_special_tokens) for one in ids])

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

    async def _prepare(self, request: EmbedRequest) -> _Prepared:
        ids = sum(len(one.content) for one in request.inputs if not isinstance(one.content, str))
        if ids > self._max_tokens:
            raise TooManyTokens(self._max_tokens, ids)
        texts = [self._text_of(one) for one in request.inputs]
        if sum(map(len, texts)) > _OFF_LOOP_CHARACTERS:
            return await asyncio.to_thread(self._to_rows, request, texts)
        return self._to_rows(request, texts)

    def _to_rows(self, request: EmbedRequest, texts: Sequence[str]) -> _Prepared:
        """Tokenise, count, chunk. Pure computation: runs on the loop or beside it."""
        specials = self._tokenizer.special_tokens
        limit = min(request.max_input_tokens or self.bundle.max_seq_length, self.bundle.max_seq_length)
        encodings = self._encode(request.inputs, texts, limit - specials)
        tokens = [len(encoding.ids) + specials for encoding in encodings]
        policy = request.long_input or self._settings.long_input
        chunks = [self._windows(*pair, request, policy, limit) for pair in zip(encodings, texts, strict=True)]
        cut = policy is LongInput.TRUNCATE
        return _Prepared(chunks, tokens, [cut and count > limit for count in tokens])

    def _encode(self, inputs: Sequence[Input], texts: Sequence[str], window: int) -> list[Encoding]:
        prompts = [one.prompt for one in inputs]
        encodings = self._tokenizer.encode(texts, prompts, window, self._max_tokens)
        if self._settings.token_ids is TokenIds.NATIVE:
            for i, one in enumerate(inputs):
                if not isinstance(one.content, str):
                    encodings[i] = self._tokenizer.adopt(one.content, encodings[i])
            total = sum(len(encoding.ids) + self._tokenizer.special_tokens for encoding in encodings)
            if total > self._max_tokens:
                raise TooManyTokens(self._max_tokens, total)
        return encodings

    def _windows(
        self, encoding: Encoding, text: str, request: EmbedRequest, policy: LongInput, limit: int
    ) -> list[Chunk]:
        around = (self._tokenizer.prefix, self._tokenizer.suffix)
        window = limit - self._tokenizer.special_tokens
        if len(encoding.ids) > window:
            if encoding.prompt_length >= window:
                raise InvalidInput("The special tokens and the prompt alone fill what may be read.", "input")
            if policy is LongInput.REJECT:
                raise InputTooLong(limit, len(encoding.ids) + self._tokenizer.special_tokens)
            if policy is LongInput.TRUNCATE:
                return [truncate(encoding, window, *around, request.truncation_side)]
        return split(encoding, text, window, *around)

    def _check_dimensions(self, requested: int | None) -> None:
        own = self.bundle.dimensions
        allowed = (*self.bundle.matryoshka_dimensions, own)
        if requested is None or requested in allowed:
            return
        if self._settings.allow_dimensions != "any" or not 1 <= requested <= own:
            raise DimensionsUnsupported(requested, allowed)

    # --- after it ---------------------------------------------------------------------------------------------

    def _per_input(self, prepared: _Prepared, vectors: Sequence[Vector]) -> Matrix:
        """One vector a chunk → (inputs, dimensions)."""
        if len(vectors) == len(prepared.chunks):
            return np.stack(vectors)
        edges = accumulate(map(len, prepared.chunks), initial=0)
        return np.stack(
            [
                _combined(vectors[start:stop], chunks)
                for (start, stop), chunks in zip(pairwise(edges), prepared.chunks, strict=True)
            ]
        )


def _combined(vectors: Sequence[Vector], chunks: Sequence[Chunk]) -> Vector:
    """One input's vectors → its own; that of an only chunk stays as it is."""
    return vectors[0] if len(vectors) == 1 else aggregate(np.stack(vectors), [chunk.weight for chunk in chunks])
