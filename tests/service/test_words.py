"""Words met before: the same ids as without a memory, whatever the text, and a memory with an end."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from service.tokenizer import Tokenizer
from service.words import Words

# What a tokenizer might see across a space, or that Python and the tokenizer might take for white space or not.
ODD = [" ", "  ", "\t", "\n", "\u00a0", "\u2028", "\u3000", "\x1c", "\x85", "\u200b", "\u0301", "\u0327", "\ufeff"]
ODD += [
    "[MASK]",
    "[SEP]",
    "[mask]",
    "MASK",
    "[",
    "]",
    "Σ",
    "ΟΔΟΣ",
    "İ",
    "ß",
    "中",
    "한",
    "é",
    "e\u0301",
    "ﬁ",
    "##b",
    "\x00",
]
texts = st.lists(st.sampled_from([*ODD, "hello", "World", "a", "b", ".", "'"]) | st.text(max_size=4), max_size=12).map(
    "".join
)


def made(folder: Path, **options: bool) -> Path:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz.'[]中σςß", "hello", "world"]
    vocabulary = [*words, *(f"##{one}" for one in "abcdefghijklmnopqrstuvwxyzσςßé")]
    own = tokenizers.Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    own.normalizer = normalizers.BertNormalizer(**options)
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    own.add_special_tokens(["[CLS]", "[SEP]", tokenizers.AddedToken("[MASK]", lstrip=True, rstrip=True)])
    own.add_tokens([tokenizers.AddedToken("hello", single_word=True)])
    target = folder / "tokenizer.json"
    own.save(str(target))
    return target


@pytest.fixture(scope="module", params=[True, False], ids=["lowercase", "as written"])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Tokenizer, tokenizers.Tokenizer]:
    path = made(tmp_path_factory.mktemp("words"), lowercase=request.param, strip_accents=request.param)
    return Tokenizer(path), tokenizers.Tokenizer.from_file(str(path))


@given(texts)
def test_ids_are_the_librarys_own(both: tuple[Tokenizer, tokenizers.Tokenizer], text: str) -> None:
    ours, librarys = both
    for _ in range(2):  # the second time from memory
        (encoding,) = ours.encode([text], [""], 10_000)
        assert list(encoding.ids) == librarys.encode(text, add_special_tokens=False).ids


def encoded(words: Words, *texts: str) -> list[list[int]]:
    return [list(ids) for ids in words.encode(texts)]


def test_a_word_is_tokenised_once() -> None:
    asked: list[str] = []

    def tokenise(words: Sequence[str]) -> list[list[int]]:
        asked.extend(words)
        return [[len(word), 0] for word in words]

    words = Words(tokenise)
    assert encoded(words, "a bc a", "bc") == [[1, 0, 2, 0, 1, 0], [2, 0]]
    assert encoded(words, "bc def") == [[2, 0, 3, 0]]
    assert sorted(asked) == ["a", "bc", "def"]


def test_memory_has_an_end_and_long_words_have_no_place_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.words._MOST_WORDS", 10)
    words = Words(lambda new: [[int(word[:4])] for word in new])
    for start in range(0, 1000, 3):
        numbers = range(start, start + 7)
        assert encoded(words, " ".join(map(str, numbers))) == [[int(str(one)[:4]) for one in numbers]]
        assert len(words._known) <= 10
    words.encode(["1" * 33])
    assert "1" * 33 not in words._known


def test_threads_do_not_disturb_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.words._MOST_WORDS", 50)
    words = Words(lambda new: [[int(word)] for word in new])

    def work(start: int) -> bool:
        numbers = range(start, start + 40)
        return encoded(words, *[" ".join(map(str, numbers))] * 3) == [list(numbers)] * 3

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(2000)))


@pytest.mark.parametrize("space", [" ", "\t", "\u00a0"])
def test_a_tokenizer_that_reads_across_spaces_remembers_nothing(tmp_path: Path, space: str) -> None:
    """BERT's normaliser makes one of each in texts and, unless they are to be left alone, in added tokens."""
    own = tokenizers.Tokenizer.from_file(str(made(tmp_path)))
    own.add_tokens([tokenizers.AddedToken(f"hello{space}world", normalized=True)])
    own.save(str(tmp_path / "tokenizer.json"))
    (encoding,) = Tokenizer(tmp_path / "tokenizer.json").encode(["hello world"], [""], 100)
    assert list(encoding.ids) == [own.token_to_id(f"hello{space}world")]
