"""Files of word vectors → bundles: the same vectors from every format, and what is said of files that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.compile import compile_checkpoint, find_cached
from models.recipe import Format
from models.verify import check, token_rows
from models.weights import Array
from models.word_vectors import recognise
from service.bundle import read_bundle
from service.encoder import Encoder
from service.errors import CheckpointError
from service.runtime.providers import CPU
from service.subwords import ngram_buckets
from tests.models import words
from tests.models.words import DIMENSIONS, WORDS, write

VECTORS = words.rows()
CONTENTS: dict[Format, bytes] = {
    "glove": words.text(WORDS, VECTORS),
    "word2vec-text": words.text(WORDS, VECTORS, words.header(VECTORS)),
    "word2vec-binary": words.binary([word.encode() for word in WORDS], VECTORS),
}


def embed(bundle: Path, *texts: str) -> Array:
    """One text at a time; and all in one batch, which must not matter."""
    described = read_bundle(bundle)
    encoder = Encoder(bundle, described, CPU)
    rows = token_rows(bundle, described, texts)
    alone = np.concatenate([encoder.run([row]) for row in rows])
    np.testing.assert_allclose(encoder.run(rows), alone, atol=1e-6)
    return alone


def compiled(path: Path, said: list[str], format: Format | None = None) -> Path:
    return compile_checkpoint(str(path), cache_dir=path.parent / "cache", say=said.append, format=format)


@pytest.mark.parametrize("kind", CONTENTS)
@pytest.mark.parametrize("zipped", [False, True])
def test_every_format_gives_the_mean_of_the_rows(tmp_path: Path, kind: Format, zipped: bool, said: list[str]) -> None:
    content = gzip.compress(CONTENTS[kind]) if zipped else CONTENTS[kind]
    path = write(tmp_path / "vectors.any.txt", content)
    assert recognise(path) == kind
    bundle = compiled(path, said)
    assert read_bundle(bundle).model_id == "vectors.any"
    assert find_cached(str(path), cache_dir=tmp_path / "cache") == bundle
    found = embed(bundle, "the", "the Mill", "unknown", "", "New_York, state-of-the-art unknown 磨坊")
    expected = [VECTORS[0], VECTORS[:2].mean(0), 0 * VECTORS[0], 0 * VECTORS[0], VECTORS[[3, 6, 5, 8]].mean(0)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert check(bundle).passed
    assert any("lower-cased" in line for line in said)


def test_the_mean_of_forty_thousand_words(tmp_path: Path, said: list[str]) -> None:
    bundle = compiled(write(tmp_path / "glove.txt", CONTENTS["glove"]), said)
    found, expected = embed(bundle, "the mill " * 20_000)[0], VECTORS[:2].mean(0)
    assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) >= 0.999999
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(expected), rel=1e-3)


def test_capital_letters_in_the_vocabulary_keep_those_of_the_text(tmp_path: Path, said: list[str]) -> None:
    bundle = compiled(write(tmp_path / "glove.txt", words.text(["the", "The"], words.rows(2))), said)
    np.testing.assert_allclose(embed(bundle, "The"), words.rows(2)[1:], atol=1e-6)
    assert any("capital letters count" in line for line in said)


def test_rows_without_a_line_feed_behind_them_are_read_too(tmp_path: Path, said: list[str]) -> None:
    content = words.binary([word.encode() for word in WORDS], VECTORS, line_feed=b"")
    bundle = compiled(write(tmp_path / "w2v.bin", content), said)
    np.testing.assert_allclose(embed(bundle, "mill"), VECTORS[1:2], atol=1e-6)


def test_what_no_text_can_hold_is_left_out_and_counted(tmp_path: Path, said: list[str]) -> None:
    found = [b"the", b"the", b"\xff\xfe", b"a\xc2\xa0b", b"mill"]
    bundle = compiled(write(tmp_path / "w2v.bin", words.binary(found, words.rows(5))), said)
    np.testing.assert_allclose(embed(bundle, "the", "mill"), words.rows(5)[[0, 4]], atol=1e-6)
    line = next(line for line in said if "dimensions" in line)
    assert line == (
        "2 words of 6 dimensions; left out: 1 met again (the first one counts); left out: 1 that are not UTF-8; "
        "left out: 1 with white space in them, or empty"
    )


def test_words_with_spaces_of_large_glove_files_are_left_out(tmp_path: Path, said: list[str]) -> None:
    bundle = compiled(write(tmp_path / "glove.txt", words.text(["the", ". . .", "mill"], words.rows(3))), said)
    np.testing.assert_allclose(embed(bundle, "mill"), words.rows(3)[2:], atol=1e-6)


COUNTED = CONTENTS["word2vec-text"]
LINES = CONTENTS["glove"].splitlines(keepends=True)
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "no words": (b"0 10\n", "has no words: it ends with its first line"),
    "a number less": (
        b"".join([*LINES[:3], b"word 1 2 3\n", *LINES[3:]]),
        "line 4 has 3 numbers after its word, not 6",
    ),
    "a number more": (b"".join([*LINES[:2], b"word 1 2 3 4 5 6 7\n"]), "line 3 has 7 numbers after its word, not 6"),
    "not a number": (b"".join([LINES[0], b"word 1 2 x 4 5 6\n"]), "line 2 has 3 numbers after its word, not 6"),
    "not finite": (b"".join([LINES[0], b"word 1 2 nan 4 5 6\n"]), "line 2 has a number that is not finite"),
    "too few lines": (CONTENTS["word2vec-text"].replace(b"9 6", b"10 6", 1), "has 9 words, its first line says 10"),
    "too many lines": (CONTENTS["word2vec-text"].replace(b"9 6", b"8 6", 1), "has 9 words, its first line says 8"),
    "other dimensions": (CONTENTS["word2vec-text"].replace(b"9 6", b"9 7", 1), "line 2 has 6 numbers"),
    "empty line": (b"".join([LINES[0], b"\n", LINES[1]]), "has 1 empty lines before b'mill"),
    "binary cut off": (CONTENTS["word2vec-binary"][:-10], "ends or is garbled in word 9 of 9"),
    "binary with more": (CONTENTS["word2vec-binary"] + b"x 123456789012345678901234", "goes on after the 9 words"),
    "prose": (b"Once upon a time there was\na mill\n", "is not a file of word vectors"),
    "gzip cut off": (gzip.compress(CONTENTS["glove"])[:-20], "cannot be read"),
    "no number of words": (b"9" * 5000 + b" 3\nthe 1 2 3\n", "line 2 has 3 numbers after its word, not 1"),
    "rows without end": (b"2 1000000000000\nthe \0\0\x80?\0", "line 2 has 0 numbers after its word, not 1"),
    "rows of no length": (b"2 1" + b"0" * 30 + b"\nthe 1 2 3\n", "line 2 has 3 numbers after its word, not 1"),
    "zip": (b"PK\x03\x04...", "is a zip archive: unpack it"),
    "pickle": (b"\x80\x04\x95...", "a Python pickle, which is never loaded"),
    "one dimension": (b"2 1\nthe 1\n", "may be word2vec's text format with vectors of one number, or GloVe's"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_place(tmp_path: Path, name: str, said: list[str]) -> None:
    content, reason = BAD[name]
    with pytest.raises(CheckpointError) as raised:
        compiled(write(tmp_path / "bad.txt", content), said)
    assert reason in raised.value.message
    assert raised.value.remedy
    assert not list((tmp_path / "cache").glob("bundles/*"))


def test_a_format_may_be_named(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path / "one.txt", b"2 1\nthe 1\n")
    np.testing.assert_allclose(embed(compiled(path, said, "glove"), "2 the"), [[1.0]])
    with pytest.raises(CheckpointError, match="has 1 words, its first line says 2"):
        compiled(path, said, "word2vec-text")


def test_int8_pooling_and_formats_that_mean_nothing_are_refused(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path / "glove.txt", CONTENTS["glove"])
    with pytest.raises(CheckpointError, match="no matrix to multiply in int8"):
        compile_checkpoint(str(path), cache_dir=tmp_path, say=said.append, precision="int8")
    with pytest.raises(CheckpointError, match="nothing that cuda could hasten"):
        compile_checkpoint(str(path), cache_dir=tmp_path, say=said.append, precision="fp16", target="cuda")
    with pytest.raises(CheckpointError, match="averaged, in no other way"):
        compile_checkpoint(str(path), cache_dir=tmp_path, say=said.append, pooling="cls")


# ------------------------------------------------------------------------------------------- fastText

BUCKETS = 50
MATRIX = words.rows(len(WORDS) + BUCKETS)


def fasttext_vector(word: str) -> Array:
    """By the paper: the mean of the word's own row, if it has one, and its n-grams'."""
    own = [WORDS.index(word)] if word in WORDS else []
    grams = [len(WORDS) + one for one in ngram_buckets(word, 2, 4, BUCKETS)]
    vector: Array = MATRIX[own + grams].mean(0)
    return vector


def fasttext_sentence(text: str) -> Array:
    found = [fasttext_vector(word) for word in text.split()]
    mean: Array = np.mean([one / np.linalg.norm(one) for one in found], axis=0)
    return mean


def test_fasttext_words_known_and_unseen(tmp_path: Path, said: list[str]) -> None:
    path = write(tmp_path / "ft.bin", words.fasttext(WORDS, MATRIX, buckets=BUCKETS))
    assert recognise(path) == "fasttext"
    texts = ["the", "unseen", "The mill, the mill", "x y z", "夜 unseen river the unheard"]
    np.testing.assert_allclose(embed(compiled(path, said), *texts), [*map(fasttext_sentence, texts)], atol=1e-6)
    np.testing.assert_array_equal(embed(compiled(path, said), ""), np.zeros((1, DIMENSIONS)))


def test_fasttext_without_ngrams_leaves_unseen_words_out(tmp_path: Path, said: list[str]) -> None:
    content = words.fasttext(WORDS, VECTORS, shortest=0, longest=0, buckets=0)
    bundle = compiled(write(tmp_path / "ft.bin", content), said)
    unit = VECTORS[0] / np.linalg.norm(VECTORS[0])
    np.testing.assert_allclose(embed(bundle, "unseen", "the unseen"), [0 * unit, unit], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (words.fasttext(WORDS, MATRIX, model=3), "is a supervised classifier"),
        (words.fasttext(WORDS, MATRIX, quantised=True), "is quantised"),
        (words.fasttext(WORDS, MATRIX, pruned=3), "pruned"),
        (words.fasttext(WORDS, MATRIX, version=13), "is not a fastText model of version 11 or 12"),
        (words.fasttext(WORDS, MATRIX)[:-5], "ends before its matrix does"),
        (words.fasttext(WORDS, MATRIX)[:70], "ends before its matrix does"),
        (words.fasttext(WORDS, MATRIX, buckets=49), "has a matrix of 59 x 6, not one of 9 words and 49 buckets x 6"),
        (words.fasttext(WORDS, MATRIX * np.float32(np.nan)), "not finite"),
        (words.fasttext(WORDS, MATRIX[:8], buckets=-1), "not one of 9 words and -1 buckets"),
        (words.fasttext([*WORDS[:-1], "mill\nriver"], MATRIX), "a word holds a line feed"),
    ],
)
def test_fasttext_files_that_are_refused(tmp_path: Path, content: bytes, reason: str, said: list[str]) -> None:
    with pytest.raises(CheckpointError, match=reason):
        compiled(write(tmp_path / "ft.bin", content), said)
