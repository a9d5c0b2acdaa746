"""Text → token ids, by the model's own tokenizer. The only importer of `tokenizers`."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from service.bundle import RECOMPILE, TOKENIZER_JSON, WORDS_TXT, Bundle, WordRules
from service.errors import BundleError, InvalidInput, TooManyTokens
from service.types import Encoding, PairTemplate
from service.vocabulary import Vocabulary
from service.words import Words

_SLICE = 50_000  # characters
_CHARACTERS_A_TOKEN = 4  # of a text in a language with an alphabet, about
_COUNTED = 4  # times as many tokens as a request may hold: beyond that it does not matter how many there are
# One character that many normalisers write as 18, of 33 bytes; no other has more than eight.
_LIGATURE, _LIGATURE_SIZE = "\ufdfa", 18
_BERT = (normalizers.BertNormalizer, pre_tokenizers.BertPreTokenizer, models.WordPiece)


@dataclass(frozen=True, slots=True)
class Piece:
    """One token, for people to look at.

    `text[start:stop]`, counted in bytes of UTF-8, is what it covers; None for the special tokens around a text.
    """

    id: int
    text: str
    special: bool = False
    start: int | None = None
    stop: int | None = None


class Tokenizer:
    """Safe to call from several threads at once; `encode` releases the GIL while it tokenises.

    `prefix` and `suffix` are the special tokens that every sequence begins and ends with, e.g. ([CLS], [SEP]);
    `special_tokens` is their number.
    """

    def __init__(self, path: Path, words: WordRules | None = None) -> None:
        """Reads a tokenizer.json; or a words.txt, of which `words` says how it is used. Raises BundleError."""
        self._tokenizer = Vocabulary.read(path, words) if words else _library(path)
        self.vocab_size: int = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.prefix, self.suffix = _special_tokens(self._tokenizer)
        self.special_tokens = len(self.prefix) + len(self.suffix)
        self._short_ids: Callable[[Sequence[str]], Sequence[Sequence[int]]] = (
            Words(self._ids).encode if _knows_words_by_themselves(self._tokenizer) else self._ids
        )

    @property
    def pair(self) -> PairTemplate:
        """What the post-processor puts around and between two texts, found by looking at a pair.

        Raises BundleError where it does not say, puts the second text first, or has types of its own for tokens.
        """
        if isinstance(self._tokenizer, Vocabulary):
            raise BundleError("word vectors read no pairs of texts", RECOMPILE)
        probe = _probe(self._tokenizer, pair="a")
        texts = probe.sequence_ids
        if 0 not in texts or 1 not in texts:
            raise BundleError("the tokenizer gives no tokens for a pair of texts", RECOMPILE)
        first, second = (_range_of(texts, number) for number in (0, 1))
        if first[1] > second[0]:
            raise BundleError("the tokenizer does not put the second text of a pair behind the first", RECOMPILE)
        usual = [0] * second[0] + [1] * (len(texts) - second[0])
        if any(probe.type_ids) and probe.type_ids != usual:
            raise BundleError(f"the tokenizer gives a pair's tokens the types {probe.type_ids}, not {usual}", RECOMPILE)
        prefix, middle, suffix = probe.ids[: first[0]], probe.ids[first[1] : second[0]], probe.ids[second[1] :]
        return PairTemplate(tuple(prefix), tuple(middle), tuple(suffix), any(probe.type_ids))

    def encode(
        self,
        texts: Sequence[str],
        prompts: Sequence[str],
        window: int,
        max_tokens: int = sys.maxsize,
        check: Callable[[], None] = lambda: None,
    ) -> list[Encoding]:
        """Tokenises `prompt + text` for each pair, without special tokens.

        Offsets cost several times what the tokens do, and only an input that does not fit `window` tokens needs
        them; so whatever may fit, by the usual number of characters a token, is tokenised without them first.
        Raises TooManyTokens when all inputs, with special tokens, have more than `max_tokens` together, and what
        `check` raises, which is called before every slice of them.
        """
        joined = [prompt + text for prompt, text in zip(prompts, texts, strict=True)] if any(prompts) else texts
        encodings: dict[int, Encoding] = {}
        total = self.special_tokens * len(joined)
        most = min(_CHARACTERS_A_TOKEN * window, _SLICE)
        groups = _groups(joined, most) if sum(map(size_of, joined)) > most else (range(len(joined)),)
        for group in groups:
            check()
            for i, ids in zip(group, self._short_ids([joined[i] for i in group]), strict=True):
                encodings[i] = Encoding(ids)
                total += len(ids)
            if total > max_tokens:
                raise self._too_many(joined, max_tokens, check)
        for i, text in enumerate(joined):
            if i not in encodings:
                encodings[i] = self._encode_with_offsets(text, len(prompts[i]), max_tokens - total, check)
                total += len(encodings[i].ids)
            elif len(encodings[i].ids) > window:  # and counted
                encodings[i] = self._encode_with_offsets(text, len(prompts[i]), sys.maxsize, check)
            if total > max_tokens:
                raise self._too_many(joined, max_tokens, check)
        return [encodings[i] for i in range(len(joined))]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return [one.ids for one in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _encode_with_offsets(
        self, joined: str, prompt: int, max_tokens: int, check: Callable[[], None] = lambda: None
    ) -> Encoding:
        """`prompt` is its length in characters; offsets are moved to count from where the text begins.

        Stops soon after `max_tokens`, so that what an absurd text costs has a bound.
        """
        ids, starts, ends = array("i"), array("i"), array("i")  # 12 bytes a token, where lists would take 150
        for start, stop in slices(joined):
            check()
            # `encode` would hold the GIL for as long as it takes; `encode_batch` does not.
            (found,) = self._tokenizer.encode_batch([joined[start:stop]], add_special_tokens=False)
            ids.extend(found.ids)
            shift = start - prompt
            starts.extend([max(0, begin + shift) for begin, _ in found.offsets])
            ends.extend([max(0, end + shift) for _, end in found.offsets])
            if len(ids) > max_tokens:
                break
        # Counted jointly, because a tokenizer may merge the prompt's last characters with the text's first.
        prompt_length = sum(end <= 0 for end in ends[: prompt + 1]) if prompt else 0
        return Encoding(ids, prompt_length, starts, ends)

    def _too_many(self, texts: Sequence[str], max_tokens: int, check: Callable[[], None]) -> TooManyTokens:
        """Counts, at a third of the cost of having the tokens, until it is clear that they are far too many: a few
        hundred kilobytes of token ids may stand for 33 million."""
        total = 0
        for text in texts:
            total += self.special_tokens
            for start, stop in slices(text):
                check()
                total += len(self._tokenizer.encode_batch_fast([text[start:stop]], add_special_tokens=False)[0])
                if total > _COUNTED * max_tokens:
                    return TooManyTokens(max_tokens, _COUNTED * max_tokens, or_more=True)
        return TooManyTokens(max_tokens, total)

    def place_behind(self, prompt: str) -> int:
        """Where in a row the prompt ends, as sentence-transformers measures it: the tokens of the prompt alone, with
        the special ones around it but for the last one, if that is special."""
        (found,) = self._ids([prompt])
        row = [*self.prefix, *found, *self.suffix]
        added = self._tokenizer.get_added_tokens_decoder().items()
        special = {*self.prefix, *self.suffix, *(number for number, one in added if one.special)}
        return len(row) - (row[-1] in special if row else 0)

    def adopt(self, ids: Sequence[int], prompt: Encoding) -> Encoding:
        """Ids of this tokenizer, from a client, behind an encoded prompt.

        Special tokens around them are taken off, as every window gets its own. Raises InvalidInput.
        """
        self._check_ids(ids)
        start, stop = len(self.prefix), len(ids) - len(self.suffix)
        if stop >= start and tuple(ids[:start]) == self.prefix and tuple(ids[stop:]) == self.suffix:
            ids = ids[start:stop]
        return Encoding([*prompt.ids, *ids], len(prompt.ids))

    def pieces(
        self, texts: Sequence[str], add_special_tokens: bool, max_tokens: int, check: Callable[[], None] = lambda: None
    ) -> list[list[Piece]]:
        """Each text's tokens. Raises TooManyTokens when all have more than `max_tokens` together, and what `check`
        does, which is called every now and then."""
        around = (self.prefix, self.suffix) if add_special_tokens else ((), ())
        before, after = ([Piece(one, self._tokenizer.id_to_token(one) or "", True) for one in ids] for ids in around)
        found: list[list[Piece]] = []
        total = 0
        for text in texts:
            encoding = self._encode_with_offsets(text, 0, max_tokens - total, check)
            total += len(encoding.ids) + len(before) + len(after)
            if total > max_tokens:
                raise TooManyTokens(max_tokens, total)
            found.append([*before, *_pieces(text, encoding), *after])
        return found

    def decode(self, many: Sequence[Sequence[int]], skip_special_tokens: bool) -> list[str]:
        """The text of each. Raises InvalidInput for ids that are not in the vocabulary."""
        for ids in many:
            self._check_ids(ids)
        # As with `encode`, only the call for many releases the GIL.
        return self._tokenizer.decode_batch(many, skip_special_tokens=skip_special_tokens)

    def _check_ids(self, ids: Sequence[int]) -> None:
        for token in ids:
            if not 0 <= token < self.vocab_size:
                raise InvalidInput(f"Token id {token} is not in the model's vocabulary of {self.vocab_size}.", "input")


def _range_of(texts: Sequence[int | None], number: int) -> tuple[int, int]:
    """Where the tokens of one text of a pair stand, from its first to behind its last."""
    return texts.index(number), len(texts) - texts[::-1].index(number)


def open_tokenizer(folder: Path, bundle: Bundle) -> Tokenizer:
    """The bundle's. Raises BundleError."""
    return Tokenizer(folder / (WORDS_TXT if bundle.words else TOKENIZER_JSON), bundle.words)


def _library(path: Path) -> tokenizers.Tokenizer:
    try:
        own = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise BundleError(f"{path} is not a tokenizer: {error}", RECOMPILE) from error
    # Windows are this server's own business (chunking.py): the file's settings must not cut or pad first.
    own.no_truncation()
    own.no_padding()
    return own


def _probe(own: tokenizers.Tokenizer, pair: str | None = None) -> tokenizers.Encoding:
    """The text "a", or a pair of it. Raises BundleError."""
    try:
        return own.encode("a", pair, add_special_tokens=True)
    except BaseException as error:
        # The library's are plain ones; Rust's own is no Exception, and cannot be imported.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise BundleError(f"the tokenizer fails on the text 'a': {error}", RECOMPILE) from error


def _special_tokens(own: tokenizers.Tokenizer | Vocabulary) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What the post-processor puts around a sequence, found by looking at one."""
    if isinstance(own, Vocabulary) or own.post_processor is None:
        return (), ()
    probe = _probe(own)
    mask = probe.special_tokens_mask
    if 0 not in mask:
        raise BundleError("the tokenizer gives no tokens for the text 'a'", RECOMPILE)
    first = mask.index(0)
    last = len(mask) - mask[::-1].index(0)
    return tuple(probe.ids[:first]), tuple(probe.ids[last:])


def _knows_words_by_themselves(own: tokenizers.Tokenizer | Vocabulary) -> bool:
    """Whether a text's ids are those of what stands between its spaces: so it is where a normaliser that works
    by characters and a cut at every space come before a model of words, and no added token holds white space, which
    the normaliser makes a space of."""
    if isinstance(own, Vocabulary):
        return False  # which remembers by itself
    parts = own.normalizer, own.pre_tokenizer, own.model
    added = own.get_added_tokens_decoder().values()
    return tuple(map(type, parts)) == _BERT and not any(map(str.isspace, "".join(one.content for one in added)))


def _pieces(text: str, encoding: Encoding) -> Iterator[Piece]:
    """The tokenizer counts in characters."""
    plain = text.isascii()
    position = range(len(text) + 1) if plain else list(accumulate((len(c.encode()) for c in text), initial=0))
    for token, start, stop in zip(encoding.ids, encoding.starts, encoding.ends, strict=True):
        yield Piece(token, text[start:stop], False, position[start], position[stop])


def _groups(texts: Sequence[str], most: int) -> Iterator[Sequence[int]]:
    """Places of the texts of at most so many characters, some at a time: as many as make a slice."""
    group: list[int] = []
    size = 0
    for i, text in enumerate(texts):
        if len(text) > most or (own := size_of(text)) > most:
            continue
        if group and size + own > _SLICE:
            yield group
            group, size = [], 0
        group.append(i)
        size += own
    if group:
        yield group


def size_of(text: str) -> int:
    """The characters to go through, where a normaliser makes several of one."""
    return len(text) + (_LIGATURE_SIZE - 1) * text.count(_LIGATURE)


def slices(text: str) -> Iterator[tuple[int, int]]:
    """Ranges of a long text that are tokenised one by one, each beginning with the first of some white space if
    there is any in the half before.

    Tokenizers cut at white space first, so that ids are the same as in one piece; only a word longer than a slice is
    cut. Memory while tokenising is some hundred bytes for each character: this bounds it.
    """
    start, length = 0, len(text)
    while length - start > (size := _slice_at(text, start)):
        stop = start + size
        before_words = (
            i for i in range(stop, start + size // 2, -1) if text[i].isspace() and not text[i - 1].isspace()
        )
        stop = next(before_words, stop)
        yield start, stop
        start = stop
    yield start, length


def _slice_at(text: str, start: int) -> int:
    """Shorter where the characters become so many that they would fill two."""
    is_swelling = _LIGATURE_SIZE * text.count(_LIGATURE, start, start + _SLICE) > _SLICE
    return _SLICE // _LIGATURE_SIZE if is_swelling else _SLICE
