"""Inputs → rows of token ids, ready for the queue: what every kind of model does first.

inputs → texts → tokenise → chunk
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

from service import cl100k
from service.batcher import Batcher
from service.bundle import Bundle
from service.choices import TokenIds
from service.errors import DimensionsUnsupported, EmptyInput, InvalidInput, TooManyTokens
from service.long_input import Cut, Rules, cut, rules_of
from service.settings import ModelSettings
from service.spending import spend
from service.tokenizer import Piece, Tokenizer, size_of
from service.tracing import TOKENISE, enter
from service.types import Encoding, Input, Wishes
from service.workers import Workers

# Texts of this many characters, or token ids, together are tokenised beside the event loop (about 1 ms of work), so
# that health checks and short requests do not wait for them.
OFF_LOOP_CHARACTERS = 5_000
# Of what requests wish for, which is nearly always the same.
RULES_KEPT = 64


class Reader:
    """One model's way to read: prompts, tokens, limits, chunks."""

    def __init__(
        self,
        bundle: Bundle,
        tokenizer: Tokenizer,
        batcher: Batcher,
        workers: Workers,
        settings: ModelSettings,
        max_tokens: int,
    ) -> None:
        """`batcher` gives the main output of the bundle's task. `max_tokens` is the limit for all inputs of one request
        together."""
        self.bundle = bundle
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._workers = workers
        self.settings = settings
        self._max_tokens = max_tokens
        self._pools_after_prompt = "pooling_mask" in bundle.inputs
        self._rules = lru_cache(RULES_KEPT)(self._make_rules)

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

    async def tokenize(
        self, texts: Sequence[str], prompt: str, add_special_tokens: bool, deadline: float | None = None
    ) -> list[list[Piece]]:
        """What the model reads of each text, uncut. Raises TooManyTokens, and what Workers.run raises."""
        enter(TOKENISE)
        joined = [prompt + text for text in texts]
        size = sum(map(size_of, joined))
        return await self._workers.run(
            lambda ticket: self._tokenizer.pieces(joined, add_special_tokens, self._max_tokens, ticket.check),
            size,
            deadline,
        )

    async def decode(
        self, ids: Sequence[Sequence[int]], skip_special_tokens: bool, deadline: float | None = None
    ) -> list[str]:
        """Texts of the model's own token ids. Raises InvalidInput, TooManyTokens, and what Workers.run raises."""
        total = sum(map(len, ids))
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)
        return await self._workers.run(lambda _: self._tokenizer.decode(ids, skip_special_tokens), total, deadline)

    def _make_rules(self, wishes: Wishes) -> Rules:
        around = self._tokenizer.prefix, self._tokenizer.suffix
        return rules_of(wishes, self.settings, self.bundle, *around)

    async def _prepare(self, inputs: Sequence[Input], rules: Sequence[Rules], deadline: float | None) -> list[Cut]:
        """Of one client's request, for whose inputs together the limits are; each input has its own `rules`."""
        enter(TOKENISE)
        ids = sum([len(one.content) for one in inputs if not isinstance(one.content, str)])
        if ids > self._max_tokens:
            raise TooManyTokens(self._max_tokens, ids)
        if ids > OFF_LOOP_CHARACTERS:  # of which each may stand for a hundred characters
            texts = await self._workers.run(lambda _: self._texts(inputs), ids, deadline)
        else:
            texts = self._texts(inputs)
        # A prompt counts: where it holds a title, it may be as long as any text.
        size = ids + sum(map(size_of, texts)) + sum([size_of(one.prompt) for one in inputs if one.prompt])
        if size > OFF_LOOP_CHARACTERS:
            cuts = await self._workers.run(lambda ticket: self._cut(inputs, texts, rules, ticket.check), size, deadline)
        else:
            cuts = self._cut(inputs, texts, rules)
        spend(sum([one.tokens for one in cuts]))
        return cuts

    def _texts(self, inputs: Sequence[Input]) -> list[str]:
        return [self._text_of(one) for one in inputs]

    def _cut(
        self,
        inputs: Sequence[Input],
        texts: Sequence[str],
        rules: Sequence[Rules],
        check: Callable[[], None] = lambda: None,
    ) -> list[Cut]:
        """Tokenise, count, chunk. Pure computation: runs on the loop; or beside it, until `check` raises."""
        encodings = self._encode(inputs, texts, rules, check)
        cuts = []
        most = room = self.settings.max_chunks  # of which inputs that are not cut take none
        for encoding, text, its_rules in zip(encodings, texts, rules, strict=True):
            check()
            cuts.append(one := cut(encoding, text, its_rules, room))
            room -= len(one.chunks) if len(one.chunks) > 1 else 0
        if room < most:
            self._check_repeated(cuts)
        return cuts

    def _check_repeated(self, cuts: Sequence[Cut]) -> None:
        """What several chunks of an input hold alike, prompt and overlap, is computed as often, and so it counts."""
        total = sum(len(row) - self._tokenizer.special_tokens for one in cuts for row in one.rows)
        if total > self._max_tokens:
            raise TooManyTokens(self._max_tokens, total)

    def _encode(
        self, inputs: Sequence[Input], texts: Sequence[str], rules: Sequence[Rules], check: Callable[[], None]
    ) -> list[Encoding]:
        prompts = [one.prompt for one in inputs]
        # Only with offsets is it known which tokens are the prompt's.
        exactly = any(prompts) and any(one.return_chunks for one in rules)
        window = 0 if exactly else min([one.window.size for one in rules])
        encodings = self._tokenizer.encode(texts, prompts, window, self._max_tokens, check)
        if self.settings.token_ids is TokenIds.NATIVE:
            for i, one in enumerate(inputs):
                if not isinstance(one.content, str):
                    encodings[i] = self._tokenizer.adopt(one.content, encodings[i])
            total = sum(len(encoding.ids) + self._tokenizer.special_tokens for encoding in encodings)
            if total > self._max_tokens:
                raise TooManyTokens(self._max_tokens, total)
        return self._without_prompts(encodings, prompts) if self._pools_after_prompt else encodings

    def _without_prompts(self, encodings: Sequence[Encoding], prompts: Sequence[str]) -> list[Encoding]:
        """What pooling leaves out depends on the prompt alone, not on how it meets the text."""
        places = {prompt: self._tokenizer.place_behind(prompt) if prompt else 0 for prompt in set(prompts)}
        return [one._replace(pooled_from=places[prompt]) for one, prompt in zip(encodings, prompts, strict=True)]

    def _check_dimensions(self, requested: int | None) -> None:
        if requested is None:
            return
        own = self.bundle.dimensions
        allowed = (*self.bundle.matryoshka_dimensions, own)
        if requested in allowed:
            return
        if self.settings.allow_dimensions != "any" or not 1 <= requested <= own:
            raise DimensionsUnsupported(requested, allowed)

    def _text_of(self, one: Input) -> str:
        """What will be tokenised. Token ids become text again; natively meant ones stay ids."""
        if isinstance(one.content, str):
            if self.settings.strict and not one.content.strip():
                raise EmptyInput("An input is empty, and this model is set to be strict.", "input")
            return one.content
        if self.settings.token_ids is TokenIds.REJECT:
            raise InvalidInput("This model takes texts, not token ids.", "input")
        return cl100k.decode(one.content) if self.settings.token_ids is TokenIds.CL100K_BASE else ""
