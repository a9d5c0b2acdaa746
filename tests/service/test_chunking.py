"""Chunks: where they are cut, that nothing is lost, and what comes of their vectors."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.boundaries import Rank, rank
from service.choices import Aggregation, Boundary, TruncationSide
from service.chunking import Window, aggregate, late_vectors, split, split_late, truncate, weights, windows
from service.types import Chunk, Encoding

# A stand-in for a tokenizer that keeps to words: runs of letters, single signs, and single Han or kana characters.
_TOKEN = re.compile(r"[^\W\u3040-\u9fff]+|[\u3040-\u9fff]|[^\w\s]")


def encoded(offsets: list[tuple[int, int]], prompt: int = 0) -> Encoding:
    """Tokens that are numbered, those of the prompt below 0."""
    ids = [*range(-prompt, 0), *range(len(offsets))]
    starts, ends = ([0] * prompt + [offset[side] for offset in offsets] for side in (0, 1))
    return Encoding(ids, prompt, starts, ends)


def tokenised(text: str, prompt: int = 0) -> Encoding:
    return encoded([match.span() for match in _TOKEN.finditer(text)], prompt)


def pieces(text: str, size: int, overlap: int = 0, boundary: Boundary = Boundary.PARAGRAPH) -> list[str]:
    """The text of each chunk."""
    chunks = split(tokenised(text), text, Window(size, overlap=overlap, boundary=boundary))
    return [text[slice(*chunk.span)] for chunk in chunks if chunk.span]


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
        ("東京タワーへ行く", 5, ["東京", "タワーへ行", "く"]),
        ("はひふへほまみ", 3, ["はひふ", "へほま", "み"]),
        ("alpha beta gam-ma-ray", 4, ["alpha beta", "gam-ma-", "ray"]),
        ("3.14 is pi", 4, ["3.14 is", "pi"]),
        ("f(x)=g(y)+1", 4, ["f(x)", "=g(y", ")+1"]),
        ("line one\nline two\nline three", 5, ["line one\nline two", "line three"]),
    ],
)
def test_cuts_where_a_reader_would(text: str, size: int, expected: list[str]) -> None:
    assert pieces(text, size) == expected


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        (Boundary.PARAGRAPH, ["a b c", "d. e f-g", "h i"]),
        (Boundary.SENTENCE, ["a b c\n\nd.", "e f-g h i"]),
        (Boundary.WORD, ["a b c\n\nd. e", "f-g h i"]),
        (Boundary.TOKEN, ["a b c\n\nd. e f", "-g h i"]),
    ],
)
def test_the_best_boundary_is_the_callers_choice(boundary: Boundary, expected: list[str]) -> None:
    assert pieces("a b c\n\nd. e f-g h i", 7 if boundary is Boundary.TOKEN else 6, boundary=boundary) == expected


def test_chunks_overlap_by_whole_words_at_most_as_far_as_asked() -> None:
    assert pieces("one two three four five six seven", 4, overlap=2) == [
        "one two three four",
        "three four five six",
        "five six seven",
    ]
    # "ga-mma" has three tokens: two of them would be a part of a word.
    assert pieces("alpha beta ga-mma delta one two three", 6, overlap=2) == [
        "alpha beta ga-mma delta",
        "delta one two three",
    ]
    assert pieces("今日は晴れ明日は雨", 4, overlap=1) == ["今日は晴", "晴れ明日", "日は雨"]


def test_a_word_is_not_cut_for_the_sake_of_the_overlap() -> None:
    # "b-c-d-e" has 7 tokens, which fit a window of 8, but not beside 3 repeated ones.
    assert pieces("a1 a2 a3 a4 a5 b-c-d-e", 8, overlap=3) == ["a1 a2 a3 a4 a5", "b-c-d-e"]


def test_overlap_inside_a_word_that_fills_windows() -> None:
    encoding = encoded([(i, i + 1) for i in range(25)])
    assert list(windows(encoding, "x" * 25, Window(10, overlap=2))) == [(0, 10), (8, 18), (16, 25)]


def test_accents_that_a_tokenizer_leaves_out_end_no_word() -> None:
    text = "ab cde\u0301fg \ufeffhi"  # the offsets of BERT's tokenizers skip the accent and the byte order mark
    encoding = encoded([(0, 1), (1, 2), (3, 4), (4, 5), (5, 6), (7, 8), (8, 9), (11, 12), (12, 13)])
    found = [text[slice(*chunk.span)] for chunk in split(encoding, text, Window(5)) if chunk.span]
    assert found == ["ab", "cde\u0301fg \ufeff", "hi"]
    assert rank("foo\ufeffbar", 3, 4) is Rank.INSIDE
    assert rank("विश्व", 1, 3) is Rank.INSIDE


def test_a_word_that_fits_a_window_is_never_cut() -> None:
    # Every sign is a token, as WordPiece makes of unknown letters; words have 7 of them and windows 10.
    text = " ".join(["abcdefg"] * 20)
    encoding = encoded([(8 * word + i, 8 * word + i + 1) for word in range(20) for i in range(7)])
    assert {stop - start for start, stop in windows(encoding, text, Window(10))} == {7}


def test_a_word_longer_than_a_window_is_cut_where_the_window_ends() -> None:
    encoding = encoded([(i, i + 1) for i in range(25)])
    assert list(windows(encoding, "x" * 25, Window(10))) == [(0, 10), (10, 20), (20, 25)]


def test_several_tokens_of_one_character_stay_together() -> None:
    offsets = [(0, 2)] + [(i, i + 1) for i in (3, 4, 5) for _ in range(4)]
    assert list(windows(encoded(offsets), "ab 🙂🙂🙂", Window(6))) == [(0, 1), (1, 5), (5, 9), (9, 13)]


def test_token_ids_without_a_text_are_cut_where_the_window_ends_and_have_no_span() -> None:
    encoding = Encoding(list(range(7)))
    assert list(windows(encoding, "", Window(3))) == [(0, 3), (3, 6), (6, 7)]
    assert list(windows(encoding, "", Window(4, overlap=2))) == [(0, 4), (2, 6), (4, 7)]
    assert [chunk.span for chunk in split(encoding, "", Window(3))] == [None] * 3


def test_every_chunk_gets_its_special_tokens_and_its_prompt() -> None:
    text = "one two three four five"
    chunks = list(split(tokenised(text, prompt=2), text, Window(5, [101], [102])))
    assert [list(chunk.row) for chunk in chunks] == [[101, -2, -1, 0, 1, 2, 102], [101, -2, -1, 3, 4, 102]]
    assert [chunk.token_count for chunk in chunks] == [3, 2]
    assert [chunk.span for chunk in chunks] == [(0, 13), (14, 23)]


def test_an_input_that_fits_is_one_chunk_as_it_is() -> None:
    (chunk,) = split(tokenised(" one two\n", prompt=1), " one two\n", Window(3, [101], [102]))
    assert (list(chunk.row), chunk.token_count, chunk.span) == ([101, -1, 0, 1, 102], 2, (1, 8))


@pytest.mark.parametrize("side", list(TruncationSide))
def test_truncation_keeps_the_prompt_and_one_end_and_says_which(side: TruncationSide) -> None:
    text = "one two three four"
    chunk = truncate(tokenised(text, prompt=1), text, Window(3, [101], [102]), side)
    kept, span = ([0, 1], (0, 7)) if side is TruncationSide.RIGHT else ([2, 3], (8, 18))
    assert (list(chunk.row), chunk.token_count, chunk.span) == ([101, -1, *kept, 102], 2, span)


def test_truncation_to_less_than_the_prompt_keeps_the_prompts_beginning() -> None:
    chunk = truncate(tokenised("one two", prompt=3), "one two", Window(2, [101], [102]))
    assert (list(chunk.row), chunk.token_count) == ([101, -3, -2, 102], 0)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=400)


@given(texts, st.integers(1, 40), st.integers(0, 5), st.sampled_from(list(Boundary)))
def test_chunks_cover_every_token_and_every_character_once_and_in_order(
    text: str, size: int, prompt: int, boundary: Boundary
) -> None:
    encoding = tokenised(text, prompt)
    for cut in (split, split_late):
        chunks = list(cut(encoding, text, Window(size + prompt, boundary=boundary)))
        assert sum(chunk.token_count for chunk in chunks) == len(encoding.ids) - prompt
        assert all(chunk.token_count <= size for chunk in chunks)
        assert all(chunk.token_count for chunk in chunks) or len(chunks) == 1
        assert _without_space(chunks, text) == "".join(text.split())
        ends = [place for chunk in chunks if chunk.span for place in chunk.span]
        assert ends == sorted(ends)


def _without_space(chunks: list[Chunk], text: str) -> str:
    return "".join("".join(text[slice(*chunk.span)].split()) for chunk in chunks if chunk.span)


@given(texts, st.integers(2, 40), st.data(), st.sampled_from(list(Boundary)))
def test_overlapping_windows_go_on_and_reach_back_no_further_than_asked(
    text: str, size: int, data: st.DataObject, boundary: Boundary
) -> None:
    overlap = data.draw(st.integers(1, size - 1))
    encoding = tokenised(text)
    ranges = list(windows(encoding, text, Window(size, overlap=overlap, boundary=boundary)))
    covered = {position for start, stop in ranges for position in range(start, stop)}
    assert covered == set(range(len(encoding.ids)))
    assert all(stop - start <= size for start, stop in ranges)
    for (start, stop), (following, end) in pairwise(ranges):
        assert start < following <= stop < end
        assert stop - following <= overlap


@given(
    st.lists(st.text("abc.!? \n日本", min_size=1, max_size=12), min_size=1, max_size=60).map(" ".join),
    st.integers(4, 30),
    st.integers(0, 3),
)
@example("? ??日??????", 4, 3)  # the second cut is inside the long word, and its overlap reaches back beyond it
def test_no_cut_falls_inside_a_word_that_fits(text: str, size: int, overlap: int) -> None:
    encoding = tokenised(text)
    for start, stop in windows(encoding, text, Window(size, overlap=overlap)):
        for cut in (start, stop):
            if cut in (0, len(encoding.ids)) or _is_word_end(text, encoding, cut):
                continue
            begin = max((i for i in range(cut, 0, -1) if _is_word_end(text, encoding, i)), default=0)
            last = len(encoding.ids)
            end = next((i for i in range(cut, last) if _is_word_end(text, encoding, i)), last)
            assert end - begin > size


def _is_word_end(text: str, encoding: Encoding, cut: int) -> bool:
    return rank(text, encoding.ends[cut - 1], encoding.starts[cut]) >= Rank.WORD


def test_a_million_line_breaks_do_not_take_the_square_of_the_time() -> None:
    assert rank("a" + "\n" * 1_000_000 + "b", 1, 1_000_001) is Rank.PARAGRAPH


def test_late_chunks_are_the_same_places_as_parts_of_one_row() -> None:
    text = "one two three four five"
    window = Window(4, [101], [102], overlap=1)
    encoding = tokenised(text, prompt=1)
    usual, late = list(split(encoding, text, window)), list(split_late(encoding, text, window))
    assert [chunk.span for chunk in late] == [chunk.span for chunk in usual] == [(0, 13), (8, 23)]
    assert [chunk.token_count for chunk in late] == [3, 3]
    assert all(list(chunk.row) == [101, -1, 0, 1, 2, 3, 4, 102] for chunk in late)
    assert [chunk.part for chunk in late] == [(0, 5), (4, 8)]  # with what stands before, and behind


def test_a_late_vector_is_the_mean_of_its_tokens() -> None:
    states = np.array([[0, 2], [2, 2], [4, 8]], dtype=np.float32)
    np.testing.assert_array_equal(late_vectors(states, [(0, 2), (1, 3), (0, 3)]), [[1, 2], [3, 5], [2, 4]])


@given(st.lists(st.integers(1, 8192), min_size=1, max_size=50), st.sampled_from(list(Aggregation)))
def test_weights_sum_to_one(counts: list[int], aggregation: Aggregation) -> None:
    found = weights(counts, aggregation)
    assert found.shape == (len(counts),)
    assert abs(float(found.sum()) - 1) < 1e-12
    if aggregation is Aggregation.MEAN:
        np.testing.assert_allclose(found * sum(counts), counts)


def test_the_other_aggregates() -> None:
    rows = np.array([[0.6, 0.8], [1.0, 0.0]], dtype=np.float32)
    unit = np.array([1.6, 0.8]) / np.hypot(1.6, 0.8)
    np.testing.assert_allclose(aggregate(rows, [9, 1], Aggregation.MEAN_UNWEIGHTED), unit, atol=1e-6)
    np.testing.assert_allclose(
        aggregate(rows, [9, 1], Aggregation.MAX), np.array([1, 0.8]) / np.hypot(1, 0.8), atol=1e-6
    )
    np.testing.assert_allclose(aggregate(rows, [9, 1], Aggregation.FIRST), rows[0], atol=1e-6)


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
