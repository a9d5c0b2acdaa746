"""Nothing is lost: real tokenizers of the three kinds there are, on any text that Unicode allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from service.choices import Boundary
from service.chunking import Window, split, split_late
from service.tokenizer import Tokenizer
from service.types import Chunk, Encoding

_CORPUS = ["The quick brown fox jumps over the lazy dog. Größe 東京 Привет, мир! def f(x): return x + 1"] * 20
# What chunking meets in the wild: scripts without spaces, marks that combine, emoji of several code points, controls.
_EMOJI = ["\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7"]
_ODD = ["e\u0301", "\u200b", "\ufffd", "\x00", "\u00ad"]
_PIECES = st.sampled_from(
    ["word ", "x" * 120, "\n\n", "\n" * 50, ". ", "東京は晴れ。", "مرحبا؟ ", *_EMOJI, *_ODD],
)
_TEXTS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=300), st.lists(_PIECES, max_size=60).map("".join)
)


def _byte_level_bpe() -> tokenizers.Tokenizer:
    """As RoBERTa's and ModernBERT's: several tokens for one character."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    return made


def _unigram() -> tokenizers.Tokenizer:
    """As XLM-RoBERTa's: white space is part of tokens, and NFKC changes the text's length."""
    made = tokenizers.Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.train_from_iterator(
        _CORPUS,
        trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False),
    )
    return made


@pytest.fixture(scope="module")
def of_kind(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tokenizer]:
    found = {"WordPiece": Tokenizer(bundle / "tokenizer.json")}
    for name, made in {"byte-level BPE": _byte_level_bpe(), "Unigram": _unigram()}.items():
        made.post_processor = processors.TemplateProcessing("a $A a", special_tokens=[("a", made.token_to_id("a"))])
        path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
        made.save(str(path))
        found[name] = Tokenizer(path)
    return found


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE", "Unigram"])
@settings(max_examples=300)
@given(
    text=_TEXTS,
    prompt=st.sampled_from(["", "query: "]),
    room=st.integers(1, 40),
    boundary=st.sampled_from(list(Boundary)),
)
def test_chunks_cover_every_token_and_every_character_exactly_once(
    of_kind: dict[str, Tokenizer], kind: str, text: str, prompt: str, room: int, boundary: Boundary
) -> None:
    (encoding,) = of_kind[kind].encode([text], [prompt], 0)
    window = Window(encoding.prompt_length + room, boundary=boundary)
    for chunks in (list(split(encoding, text, window)), list(split_late(encoding, text, window))):
        spans = [chunk.span or (0, 0) for chunk in chunks]
        assert "".join("".join(text[start:end].split()) for start, end in spans) == "".join(text.split())
        assert _is_in_order(spans)
        assert all(chunk.token_count <= room for chunk in chunks)
        assert [token for chunk in chunks for token in _own(chunk, encoding)] == list(
            encoding.ids[encoding.prompt_length :]
        ) or chunks[0].part


def _is_in_order(spans: list[tuple[int, int]]) -> bool:
    places = [place for span in spans for place in span]
    return places == sorted(places)


def _own(chunk: Chunk, encoding: Encoding) -> list[int]:
    """A chunk's own tokens, as its row has them behind the prompt."""
    return list(chunk.row[encoding.prompt_length :])
