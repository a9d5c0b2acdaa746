"""Text → token ids, by the model's own tokenizer. The only importer of `tokenizers`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import tokenizers

from service.bundle import RECOMPILE
from service.errors import BundleError, InvalidInput, TooManyTokens
from service.types import Encoding


class Tokenizer:
    """Safe to call from several threads at once; releases the GIL while it tokenises.

    `prefix` and `suffix` are the special tokens that every sequence begins and ends with, e.g. ([CLS], [SEP]).
    """

    def __init__(self, path: Path) -> None:
        """Reads a tokenizer.json. Raises BundleError."""
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:
            raise BundleError(f"{path} is not a tokenizer: {error}", RECOMPILE) from error
        # Windows are this server's own business (chunking.py): the file's settings must not cut or pad first.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.prefix, self.suffix = self._special_tokens()

    def _special_tokens(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the post-processor puts around a sequence, found by looking at one."""
        probe = self._tokenizer.encode("a", add_special_tokens=True)
        mask = probe.special_tokens_mask
        if 0 not in mask:
            raise BundleError("the tokenizer gives no tokens for the text 'a'", RECOMPILE)
        first = mask.index(0)
        last = len(mask) - mask[::-1].index(0)
        return tuple(probe.ids[:first]), tuple(probe.ids[last:])

    @property
    def special_tokens(self) -> int:
        """How many special tokens every sequence carries."""
        return len(self.prefix) + len(self.suffix)

    def encode(
        self, texts: Sequence[str], prompts: Sequence[str], window: int, max_tokens: int = sys.maxsize
    ) -> list[Encoding]:
        """Tokenises `prompt + text` for each pair, without special tokens.

        Offsets cost as much again as the tokens, and only an input that does not fit `window` tokens needs
        them; as a token is rarely shorter than a character, inputs of that many characters go the fast way.
        Raises TooManyTokens when all inputs, with special tokens, have more than `max_tokens` together.
        """
        joined = [prompt + text for prompt, text in zip(prompts, texts, strict=True)] if any(prompts) else texts
        found = self._encode_short(joined, window)
        long = [i for i in range(len(joined)) if i not in found]
        for i in long:
            found[i] = self._tokenizer.encode(joined[i], add_special_tokens=False)
        # Counted before what may be millions of numbers become Python's.
        total = sum(map(len, found.values())) + self.special_tokens * len(joined)
        if total > max_tokens:
            raise TooManyTokens(max_tokens, total)
        need_offsets = frozenset(long)
        return [
            _with_offsets(found[i], len(prompts[i])) if i in need_offsets else Encoding(found[i].ids)
            for i in range(len(joined))
        ]

    def _encode_short(self, joined: Sequence[str], window: int) -> dict[int, tokenizers.Encoding]:
        short = [i for i, text in enumerate(joined) if len(text) <= window]
        if not short:
            return {}
        fast = self._tokenizer.encode_batch_fast([joined[i] for i in short], add_special_tokens=False)
        return {i: one for i, one in zip(short, fast, strict=True) if len(one) <= window}

    def adopt(self, ids: Sequence[int], prompt: Encoding) -> Encoding:
        """Ids of this tokenizer, from a client, behind an encoded prompt.

        Special tokens around them are taken off, as every window gets its own. Raises InvalidInput.
        """
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise InvalidInput(f"Token id {token} is not in the model's vocabulary of {self.vocab_size}.", "input")
        start, stop = len(self.prefix), len(ids) - len(self.suffix)
        if stop >= start and tuple(ids[:start]) == self.prefix and tuple(ids[stop:]) == self.suffix:
            ids = ids[start:stop]
        return Encoding([*prompt.ids, *ids], len(prompt.ids))


def _with_offsets(found: tokenizers.Encoding, prompt: int) -> Encoding:
    """`prompt` is its length in characters; offsets are moved to count from where the text begins."""
    if not prompt:
        return Encoding(found.ids, 0, found.offsets)
    # Counted jointly, because a tokenizer may merge the prompt's last characters with the text's first.
    prompt_length = sum(1 for start, _ in found.offsets if start < prompt)
    offsets = [(max(0, start - prompt), max(0, stop - prompt)) for start, stop in found.offsets]
    return Encoding(found.ids, prompt_length, offsets)
