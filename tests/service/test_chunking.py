"""Windows: where they are cut, that nothing is lost, and what comes of their vectors."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.chunking import Boundary, aggregate, boundary, split, truncate, windows
from service.types import Encoding, TruncationSide

# A stand-in for a tokenizer that keeps to words: runs of letters, single signs, and single Han or kana characters.
_TOKEN = re.compile(r"[^\W\u3040-\u9fff]+|[\u3040-\u9fff]|[^\w\s]")


def tokenised(text: str, prompt: int = 0) -> Encoding:
    offsets = [match.span() for match in _TOKEN.finditer(text)]
    ids = [*range(-prompt, 0), *range(len(offsets))]
    return Encoding(ids, prompt, [(0, 0)] * prompt + offsets)


def pieces(text: str, size: int) -> list[str]:
    """The text of each window, from its first token's begin to its last one's end."""
    encoding = tokenised(text)
    return [
        text[encoding.offsets[start][0] : encoding.offsets[stop - 1][1]]
        for start, stop in windows(encoding, text, size)
    ]


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("one two three", 3, ["one two three"]),
        ("one two three four", 3, ["one two three", "four"]),
        ("One two. Three four five", 5, ["One two.", "Three four five"]),
        ("Is it? Yes! It is so", 6, ["Is it? Yes!", "It is so"]),
        ('He said "no." She left it', 6, ['He said "no."', "She left it"]),
        ("one two three\n\nfour five six", 5, ["one two three", "four five six"]),
        ("A b c. D e\n\nf g h i", 7, ["A b c. D e", "f g h i"]),
        ("今日は晴。明日は雨", 7, ["今日は晴。", "明日は雨"]),
        ("今日は晴れ", 3, ["今日は", "晴れ"]),
        ("alpha beta gam-ma-ray", 4, ["alpha beta", "gam-ma-", "ray"]),
        ("3.14 is pi", 4, ["3.14 is", "pi"]),
        ("f(x)=g(y)+1", 4, ["f(x)", "=g(y", ")+1"]),
        ("line one\nline two\nline three", 5, ["line one\nline two", "line three"]),
    ],
)
def test_cuts_where_a_reader_would(text: str, size: int, expected: list[str]) -> None:
    assert pieces(text, size) == expected


def test_a_word_that_fits_a_window_is_never_cut() -> None:
    # Every sign is a token, as WordPiece makes of unknown letters; words have 7 of them and windows 10.
    text = " ".join(["abcdefg"] * 20)
    encoding = Encoding(list(range(140)), 0, [(8 * word + i, 8 * word + i + 1) for word in range(20) for i in range(7)])
    assert {stop - start for start, stop in windows(encoding, text, 10)} == {7}


def test_a_word_longer_than_a_window_is_cut_where_the_window_ends() -> None:
    text = "x" * 25
    encoding = Encoding(list(range(25)), 0, [(i, i + 1) for i in range(25)])
    assert windows(encoding, text, 10) == [(0, 10), (10, 20), (20, 25)]


def test_several_tokens_of_one_character_stay_together() -> None:
    text = "ab 🙂🙂🙂"
    offsets = [(0, 2)] + [(i, i + 1) for i in (3, 4, 5) for _ in range(4)]
    assert windows(Encoding(list(range(13)), 0, offsets), text, 6) == [(0, 1), (1, 5), (5, 9), (9, 13)]


def test_token_ids_without_a_text_are_cut_where_the_window_ends() -> None:
    assert windows(Encoding(list(range(7))), "", 3) == [(0, 3), (3, 6), (6, 7)]


def test_every_window_gets_its_special_tokens_and_its_prompt() -> None:
    text = "one two three four five"
    chunks = split(tokenised(text, prompt=2), text, 5, prefix=[101], suffix=[102])
    assert [list(chunk.ids) for chunk in chunks] == [[101, -2, -1, 0, 1, 2, 102], [101, -2, -1, 3, 4, 102]]
    assert [chunk.weight for chunk in chunks] == [3, 2]


def test_an_input_that_fits_is_one_chunk_as_it_is() -> None:
    (chunk,) = split(tokenised("one two", prompt=1), "one two", 3, prefix=[101], suffix=[102])
    assert list(chunk.ids) == [101, -1, 0, 1, 102]
    assert chunk.weight == 2


def test_truncation_keeps_the_first_window() -> None:
    chunk = truncate(tokenised("one two three four", prompt=1), 3, prefix=[101], suffix=[102])
    assert list(chunk.ids) == [101, -1, 0, 1, 102]
    assert chunk.weight == 2


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=400), st.integers(1, 40), st.integers(0, 5))
def test_windows_cover_every_token_once_and_in_order(text: str, size: int, prompt: int) -> None:
    encoding = tokenised(text, prompt)
    ranges = windows(encoding, text, size)
    covered = [position for start, stop in ranges for position in range(start, stop)]
    assert covered == list(range(prompt, len(encoding.ids)))
    assert all(stop - start <= size for start, stop in ranges)
    assert all(stop > start for start, stop in ranges) or not covered


@given(
    st.lists(st.text("abc.!? \n日本", min_size=1, max_size=12), min_size=1, max_size=60).map(" ".join),
    st.integers(4, 30),
)
def test_no_cut_falls_inside_a_word_that_fits(text: str, size: int) -> None:
    encoding = tokenised(text)
    for _, stop in windows(encoding, text, size)[:-1]:
        left, right = encoding.offsets[stop - 1], encoding.offsets[stop]
        if boundary(text, left, right) >= Boundary.WORD:
            continue
        begin = max((i for i in range(stop, 0, -1) if _is_word_end(text, encoding, i)), default=0)
        end = next((i for i in range(stop, len(encoding.ids)) if _is_word_end(text, encoding, i)), len(encoding.ids))
        assert end - begin > size


def _is_word_end(text: str, encoding: Encoding, cut: int) -> bool:
    return boundary(text, encoding.offsets[cut - 1], encoding.offsets[cut]) >= Boundary.WORD


def test_a_million_line_breaks_do_not_take_the_square_of_the_time() -> None:
    text = "a" + "\n" * 1_000_000 + "b"
    assert boundary(text, (0, 1), (1_000_001, 1_000_002)) is Boundary.PARAGRAPH


def test_truncation_on_the_left_keeps_the_prompt_and_the_end() -> None:
    chunk = truncate(tokenised("one two three four", prompt=1), 3, [101], [102], TruncationSide.LEFT)
    assert list(chunk.ids) == [101, -1, 2, 3, 102]


vectors = st.integers(1, 12).flatmap(
    lambda rows: st.tuples(
        st.lists(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4), min_size=rows, max_size=rows).map(
            lambda values: np.array(values, dtype=np.float32)
        ),
        st.lists(st.integers(1, 500), min_size=rows, max_size=rows),
    )
)


@given(vectors)
def test_the_aggregate_is_the_normalised_weighted_mean(case: tuple[np.ndarray, list[int]]) -> None:
    rows, weights = case
    expected = sum(np.float64(weight) * row for weight, row in zip(weights, rows, strict=True)) / sum(weights)
    found = aggregate(rows, weights)
    norm = float(np.linalg.norm(expected))
    if norm > 1e-4:
        np.testing.assert_allclose(found, expected / norm, atol=2e-3)
        assert abs(float(np.linalg.norm(found)) - 1) < 1e-5
    assert np.isfinite(found).all()


def test_equal_chunks_aggregate_to_themselves() -> None:
    row = np.array([0.6, 0.8], dtype=np.float32)
    np.testing.assert_allclose(aggregate(np.stack([row, row, row]), [254, 254, 3]), row, atol=1e-7)
