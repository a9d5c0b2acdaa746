"""The path of a request, with a real tokenizer, the real batcher, and a runtime that tells what it was given."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.batch import Outcome, Results, Rows
from service.batcher import Batcher
from service.bundle import Bundle, Provenance
from service.choices import Aggregation, LongInput, TruncationSide
from service.device import Device
from service.errors import DimensionsUnsupported, InputTooLong, InvalidInput, TooManyChunks, TooManyTokens
from service.pipeline import Embedder
from service.settings import ModelSettings
from service.tokenizer import Piece, Tokenizer
from service.types import Chunking, EmbedRequest, EmbedResult, Input, Matrix
from service.workers import Abandoned, Workers

HELLO, WORLD, QUERY, COLON = 4, 5, 6, 7
CLS, SEP = 2, 3
LONG = "hello world " * 6  # 12 tokens: three windows of 6 - 2
# Every row's vector says which words it had, and is not normalised.
DIMENSIONS = 4


def states(rows: Rows) -> list[Matrix]:
    """States that say which word they are of."""
    words = np.array([CLS, HELLO, WORLD, SEP])
    return [(np.array(row)[:, np.newaxis] == words).astype(np.float32) for row in rows]


def counts(rows: Rows) -> Matrix:
    """Vectors that say which words a row has."""
    found = [[1 + row.count(HELLO), row.count(WORLD), row.count(QUERY), 1] for row in map(list, rows)]
    return np.array(found, dtype=np.float32)


class Listed(Batcher):
    """Remembers what it was asked for; the runtime sees rows that are alike but once."""

    def __init__(self, run: Callable[[Rows], Results], rows: list[list[int]]) -> None:
        super().__init__(run, model="test", device=Device(1), max_batch_tokens=64, max_queue_tokens=1000)
        self._listed = rows

    async def submit(self, rows: Rows, deadline: float | None = None, *, is_probe: bool = False) -> Outcome:
        self._listed += map(list, rows)
        return await super().submit(rows, deadline, is_probe=is_probe)


def bundle(**changes: Any) -> Bundle:
    fields: dict[str, Any] = {
        "format": 1,
        "model_id": "test",
        "dimensions": DIMENSIONS,
        "max_seq_length": 6,
        "normalized": False,
        "inputs": ("input_ids", "attention_mask"),
        "pad_token_id": 0,
        "precision": "fp32",
        "target": "cpu",
        "prompts": {"query": "query: "},
        "provenance": Provenance(source="test", route="native", compiler="test", checkpoint={}),
        "files": {},
    }
    return Bundle(**(fields | changes))


def embed(
    tokenizer: Tokenizer,
    request: EmbedRequest,
    *,
    made: Bundle | None = None,
    max_tokens: int = 1000,
    run: Callable[[Rows], Results] = counts,
    **settings: Any,
) -> tuple[EmbedResult, list[list[int]]]:
    (result,), rows = embed_each(tokenizer, [request], made=made, max_tokens=max_tokens, run=run, **settings)
    return result, rows


def embed_each(
    tokenizer: Tokenizer,
    requests: Sequence[EmbedRequest],
    *,
    made: Bundle | None = None,
    max_tokens: int = 1000,
    run: Callable[[Rows], Results] = counts,
    **settings: Any,
) -> tuple[list[EmbedResult], list[list[int]]]:
    rows: list[list[int]] = []

    async def go() -> list[EmbedResult]:
        batcher, token_batcher = Listed(run, rows), Listed(states, rows)
        found = made or bundle()
        workers = Workers(2, 1_000_000, "test")
        embedder = Embedder(found, tokenizer, batcher, token_batcher, workers, ModelSettings(**settings), max_tokens)
        if len(requests) == 1:
            results = [await embedder.embed(requests[0])]
        else:
            results = await embedder.embed_each(requests)
        workers.close()
        await batcher.close()
        await token_batcher.close()
        return results

    return asyncio.run(go()), rows


def unit(*values: float) -> list[float]:
    return [float(value) for value in np.array(values) / np.linalg.norm(values)]


def test_a_short_text_is_one_row_with_its_special_tokens(tokenizer: Tokenizer) -> None:
    result, rows = embed(tokenizer, EmbedRequest([Input("hello world")]))
    assert rows == [[CLS, HELLO, WORLD, SEP]]
    assert result.vectors.tolist() == [[2, 1, 0, 1]]
    assert (list(result.tokens), list(result.truncated), result.rows) == ([4], [False], 1)


def test_an_empty_text_is_embedded_unless_strict(tokenizer: Tokenizer) -> None:
    assert embed(tokenizer, EmbedRequest([Input("")]))[1] == [[CLS, SEP]]
    with pytest.raises(InvalidInput, match="empty"):
        embed(tokenizer, EmbedRequest([Input(" \n")]), strict=True)


def test_long_input_becomes_windows_and_one_mean_by_weight(tokenizer: Tokenizer) -> None:
    """Normalised as the model's own vectors are: this one's are not."""
    result, rows = embed(tokenizer, EmbedRequest([Input("hello"), Input(LONG + "hello"), Input("world")]))
    assert [row for row in rows if len(row) == 6] == [[CLS, HELLO, WORLD, HELLO, WORLD, SEP]] * 3
    assert result.rows == 6
    np.testing.assert_allclose(result.vectors[0], [2, 0, 0, 1])
    mean = (np.array([3, 2, 0, 1]) * 12 + np.array([2, 0, 0, 1])) / 13
    np.testing.assert_allclose(result.vectors[1], mean, atol=1e-6)
    np.testing.assert_allclose(result.vectors[2], [1, 1, 0, 1])
    assert list(result.tokens) == [3, 15, 3]
    for made, normalize in [(bundle(), True), (bundle(normalized=True), None)]:
        request = EmbedRequest([Input(LONG + "hello")], normalize=normalize)
        np.testing.assert_allclose(embed(tokenizer, request, made=made)[0].vectors, [unit(*mean)], atol=1e-6)
    assert not any(result.truncated)


def test_truncation_is_reported(tokenizer: Tokenizer) -> None:
    request = EmbedRequest([Input("hello"), Input(LONG)], long_input=LongInput.TRUNCATE)
    result, rows = embed(tokenizer, request)
    assert sorted(rows, key=len) == [[CLS, HELLO, SEP], [CLS, HELLO, WORLD, HELLO, WORLD, SEP]]
    assert list(result.truncated) == [False, True]
    assert list(result.tokens) == [3, 14]


def test_the_request_overrules_the_models_setting(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputTooLong) as refused:
        embed(tokenizer, EmbedRequest([Input(LONG)]), long_input="reject")
    assert (refused.value.limit, refused.value.actual) == (6, 14)
    assert embed(tokenizer, EmbedRequest([Input(LONG)], long_input=LongInput.CHUNK), long_input="reject")[0].rows == 3


def test_a_request_can_ask_for_less_than_the_model_reads(tokenizer: Tokenizer) -> None:
    text = [Input("hello hello world")]
    short = EmbedRequest(text, long_input=LongInput.TRUNCATE, max_sequence_length=4)
    result, rows = embed(tokenizer, short)
    assert (rows, list(result.truncated)) == ([[CLS, HELLO, HELLO, SEP]], [True])
    left = EmbedRequest(text, long_input=LongInput.TRUNCATE, max_sequence_length=4, truncation_side=TruncationSide.LEFT)
    assert embed(tokenizer, left)[1] == [[CLS, HELLO, WORLD, SEP]]
    whole_words = EmbedRequest([Input("hello ab hello")], chunking=Chunking(max_tokens=4))  # "ab" is two tokens
    assert [len(row) - 2 for row in embed(tokenizer, whole_words)[1]] == [1, 2, 1]
    assert embed(tokenizer, EmbedRequest(text, max_sequence_length=1000))[0].rows == 1
    with pytest.raises(InvalidInput, match="fill what may be read"):
        embed(tokenizer, EmbedRequest(text, long_input=LongInput.TRUNCATE, max_sequence_length=2))


def test_an_input_that_just_fits_is_never_too_long(tokenizer: Tokenizer) -> None:
    for policy in LongInput:
        result, rows = embed(tokenizer, EmbedRequest([Input("hello world hello world")], long_input=policy))
        assert len(rows) == 1
        assert not result.truncated[0]


def test_every_window_repeats_the_prompt(tokenizer: Tokenizer) -> None:
    _, rows = embed(tokenizer, EmbedRequest([Input("hello world hello", "query: ")]))
    assert sorted(rows, key=len) == [[CLS, QUERY, COLON, HELLO, SEP], [CLS, QUERY, COLON, HELLO, WORLD, SEP]]


def test_a_prompt_without_room_for_text_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="alone fill"):
        embed(tokenizer, EmbedRequest([Input("hello", "query: query: ")]))


def test_prompts_are_looked_up_by_name_and_default(tokenizer: Tokenizer) -> None:
    async def prompt(name: str | None, made: Bundle) -> str:
        batcher = Listed(counts, [])
        workers = Workers(1, 1000, "test")
        return Embedder(made, tokenizer, batcher, batcher, workers, ModelSettings(), 1000).prompt(name)

    assert asyncio.run(prompt("query", bundle())) == "query: "
    assert asyncio.run(prompt(None, bundle())) == ""
    assert asyncio.run(prompt(None, bundle(default_prompt_name="query"))) == "query: "
    with pytest.raises(InvalidInput, match="it has: query"):
        asyncio.run(prompt("poem", bundle()))


def test_token_ids_as_the_setting_says(tokenizer: Tokenizer) -> None:
    cl100k = [15339, 1917]  # "hello world"
    assert embed(tokenizer, EmbedRequest([Input(cl100k)]))[1] == [[CLS, HELLO, WORLD, SEP]]
    native = EmbedRequest([Input([HELLO, WORLD]), Input("hello"), Input([WORLD], "query: ")])
    _, rows = embed(tokenizer, native, token_ids="native")
    assert sorted(rows) == sorted([[CLS, HELLO, WORLD, SEP], [CLS, HELLO, SEP], [CLS, QUERY, COLON, WORLD, SEP]])
    with pytest.raises(InvalidInput, match="not token ids"):
        embed(tokenizer, EmbedRequest([Input(cl100k)]), token_ids="reject")


def test_native_token_ids_are_chunked_too(tokenizer: Tokenizer) -> None:
    result, rows = embed(tokenizer, EmbedRequest([Input([HELLO] * 10)]), token_ids="native")
    assert [len(row) - 2 for row in sorted(rows, key=len, reverse=True)] == [4, 4, 2]
    assert list(result.tokens) == [12]


def test_the_limit_of_tokens_counts_all_inputs(tokenizer: Tokenizer) -> None:
    inputs = [Input("hello"), Input("hello")]
    embed(tokenizer, EmbedRequest(inputs), max_tokens=6)
    with pytest.raises(TooManyTokens):
        embed(tokenizer, EmbedRequest(inputs), max_tokens=5)
    with pytest.raises(TooManyTokens):
        embed(tokenizer, EmbedRequest([Input([HELLO] * 4)]), max_tokens=5, token_ids="native")


def test_normalisation_on_request_and_dimensions_after_it(tokenizer: Tokenizer) -> None:
    text = [Input("hello world")]
    assert embed(tokenizer, EmbedRequest(text))[0].vectors.tolist() == [[2, 1, 0, 1]]
    normalised = embed(tokenizer, EmbedRequest(text, normalize=True))[0].vectors
    np.testing.assert_allclose(normalised, [unit(2, 1, 0, 1)], atol=1e-6)
    for normalized, asked, wanted in [(True, None, unit(2, 1)), (False, True, unit(2, 1)), (False, None, [2.0, 1.0])]:
        made = bundle(matryoshka_dimensions=(2,), normalized=normalized)
        shortened = embed(tokenizer, EmbedRequest(text, dimensions=2, normalize=asked), made=made)[0].vectors
        np.testing.assert_allclose(shortened, [wanted], atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "allow", "served"),
    [(4, "model", True), (2, "model", False), (2, "any", True), (5, "any", False), (5, "model", False)],
)
def test_dimensions_a_model_can_give(tokenizer: Tokenizer, asked: int, allow: str, served: bool) -> None:
    request = EmbedRequest([Input("hello")], dimensions=asked)
    if served:
        assert embed(tokenizer, request, allow_dimensions=allow)[0].vectors.shape == (1, asked)
    else:
        with pytest.raises(DimensionsUnsupported):
            embed(tokenizer, request, allow_dimensions=allow)


def test_long_texts_are_tokenised_beside_the_loop_with_the_same_result(tokenizer: Tokenizer) -> None:
    long = "hello world " * 1000
    result, rows = embed(tokenizer, EmbedRequest([Input(long)]), max_tokens=10_000)
    assert rows == [[CLS, HELLO, WORLD, HELLO, WORLD, SEP]] * 500
    np.testing.assert_allclose(result.vectors[0], [3, 2, 0, 1], atol=1e-6)


def test_a_request_says_how_long_chunks_are_and_how_far_they_overlap(tokenizer: Tokenizer) -> None:
    text = "hello world " * 3
    _, rows = embed(tokenizer, EmbedRequest([Input(text)], chunking=Chunking(max_tokens=5, overlap=1)))
    whole = [CLS, HELLO, WORLD, HELLO, SEP]
    assert sorted(rows, key=len) == [[CLS, HELLO, WORLD, SEP], whole, whole]
    assert embed(tokenizer, EmbedRequest([Input("hello world")], chunking=Chunking(max_tokens=3)))[0].rows == 2


def test_chunks_come_back_with_their_places_and_vectors(tokenizer: Tokenizer) -> None:
    text = " hello world. hello hello world "
    request = EmbedRequest([Input(text, "query: "), Input("world", "query: ")], return_chunks=True, normalize=True)
    result, rows = embed(tokenizer, request, made=bundle(max_seq_length=7))
    long, short = result.chunks
    assert [text[slice(*span)] for span in long.spans if span] == ["hello world.", "hello hello world"]
    assert list(long.token_counts) == [3, 3]
    np.testing.assert_allclose(long.vectors, [unit(2, 1, 1, 1), unit(3, 1, 1, 1)], atol=1e-6)
    assert (list(short.spans), list(short.token_counts)) == ([(0, 5)], [1])
    np.testing.assert_allclose(short.vectors[0], result.vectors[1])
    assert all(row[:3] == [CLS, QUERY, COLON] for row in rows)
    assert not embed(tokenizer, EmbedRequest([Input(text)]))[0].chunks


def test_chunk_vectors_are_shortened_as_the_others_are(tokenizer: Tokenizer) -> None:
    request = EmbedRequest([Input(LONG)], return_chunks=True, dimensions=2)
    for normalized, wanted in [(True, unit(3, 2)), (False, [3.0, 2.0])]:
        made = bundle(matryoshka_dimensions=(2,), normalized=normalized)
        (chunks,) = embed(tokenizer, request, made=made)[0].chunks
        np.testing.assert_allclose(chunks.vectors, [wanted] * 3, atol=1e-6)


def test_the_first_chunk_alone_is_run_and_reported_as_cut_unless_all_are_returned(tokenizer: Tokenizer) -> None:
    first = EmbedRequest([Input(LONG), Input("hello")], chunking=Chunking(aggregation=Aggregation.FIRST))
    result, rows = embed(tokenizer, first)
    assert len(rows) == 2
    assert list(result.truncated) == [True, False]
    result, rows = embed(tokenizer, first._replace(return_chunks=True))
    assert len(rows) == 4
    assert not any(result.truncated)
    np.testing.assert_allclose(result.vectors[0], [3, 2, 0, 1], atol=1e-6)


def test_late_chunks_are_pooled_from_one_reading_and_the_others_are_chunked_as_usual(tokenizer: Tokenizer) -> None:
    fits, too_long = "hello world hello world", LONG
    request = EmbedRequest(
        [Input(too_long), Input(fits), Input("hello")], chunking=Chunking(max_tokens=4), late=True, return_chunks=True
    )
    result, rows = embed(tokenizer, request, made=bundle(mean_of_tokens=True))
    assert [CLS, HELLO, WORLD, HELLO, WORLD, SEP] in rows
    assert list(result.late) == [False, True, True]
    assert result.rows == len(rows) == 6 + 1 + 1
    np.testing.assert_allclose(result.chunks[1].vectors * 3, [[1, 1, 1, 0], [0, 1, 1, 1]], atol=1e-6)
    assert [fits[slice(*span)] for span in result.chunks[1].spans if span] == ["hello world", "hello world"]


def test_late_chunking_needs_a_model_that_pools_by_mean(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="mean of its tokens"):
        embed(tokenizer, EmbedRequest([Input("hello")], late=True))


@pytest.mark.parametrize(
    ("chunking", "says"),
    [
        (Chunking(overlap=4), "less than the 4 tokens"),
        (Chunking(max_tokens=5, overlap=3), "less than the 3 tokens"),
        (Chunking(max_tokens=7), "from 3 to 6"),
        (Chunking(max_tokens=2), "from 3 to 6"),
    ],
)
def test_chunks_that_a_model_cannot_have_are_refused_for_short_texts_too(
    tokenizer: Tokenizer, chunking: Chunking, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says) as refused:
        embed(tokenizer, EmbedRequest([Input("hello")], chunking=chunking))
    assert refused.value.param == "chunking"


def test_an_overlap_that_leaves_no_room_beside_the_prompt_is_refused(tokenizer: Tokenizer) -> None:
    request = EmbedRequest([Input(LONG, "query: ")], chunking=Chunking(overlap=2))
    with pytest.raises(InvalidInput, match="with the overlap fill"):
        embed(tokenizer, request)


@pytest.mark.parametrize("policy", [LongInput.TRUNCATE, LongInput.REJECT])
def test_chunking_contradicts_the_other_policies(tokenizer: Tokenizer, policy: LongInput) -> None:
    for request in (
        EmbedRequest([Input("hello")], chunking=Chunking(overlap=1)),
        EmbedRequest([Input("hello")], late=True),
    ):
        with pytest.raises(InvalidInput, match=f"says {policy}"):
            embed(tokenizer, request._replace(long_input=policy))


def test_the_settings_rule_where_a_request_is_silent(tokenizer: Tokenizer) -> None:
    plain = EmbedRequest([Input("hello world " * 3)])
    rows = embed(tokenizer, plain, chunk_max_tokens=5, chunk_overlap=1)[1]
    assert sorted(map(len, rows)) == [4, 5, 5]
    # An overlap made for longer chunks is no reason to refuse shorter ones.
    shorter = plain._replace(chunking=Chunking(max_tokens=4))
    assert [len(row) for row in embed(tokenizer, shorter, chunk_overlap=3)[1]] == [4] * 5
    assert embed(tokenizer, plain, return_chunks=True)[0].chunks
    assert not embed(tokenizer, plain._replace(return_chunks=False), return_chunks=True)[0].chunks
    text = EmbedRequest([Input("hello " * 4 + "world")])
    _, rows = embed(tokenizer, text, long_input="truncate", truncation_side="left")
    assert rows == [[CLS, HELLO, HELLO, HELLO, WORLD, SEP]]
    # Who says how to chunk wants chunks, whatever the setting.
    assert len(embed(tokenizer, shorter, long_input="truncate")[1]) == 3


def test_limits_of_one_input_of_chunks_and_of_repeated_tokens(tokenizer: Tokenizer) -> None:
    inputs = [Input(LONG), Input("hello")]
    embed(tokenizer, EmbedRequest(inputs), max_input_tokens=14, max_chunks=3)
    with pytest.raises(InputTooLong) as refused:
        embed(tokenizer, EmbedRequest(inputs), max_input_tokens=13)
    assert (refused.value.limit, refused.value.actual) == (13, 14)
    with pytest.raises(TooManyChunks):
        embed(tokenizer, EmbedRequest(inputs), max_chunks=2)
    with pytest.raises(TooManyChunks):
        embed(tokenizer, EmbedRequest([Input(LONG)] * 2), max_chunks=5)
    embed(tokenizer, EmbedRequest([Input("hello")] * 5), max_chunks=1)
    overlapping = EmbedRequest([Input(LONG)], chunking=Chunking(overlap=3))
    embed(tokenizer, overlapping, max_tokens=36)
    with pytest.raises(TooManyTokens):
        embed(tokenizer, overlapping, max_tokens=35)
    prompted = EmbedRequest([Input("hello " * 10, "query: ")])  # five rows of 4, for 12 tokens and 2 special ones
    embed(tokenizer, prompted, max_tokens=20)
    with pytest.raises(TooManyTokens):
        embed(tokenizer, prompted, max_tokens=19)


def test_native_token_ids_have_chunks_without_places(tokenizer: Tokenizer) -> None:
    result, _ = embed(tokenizer, EmbedRequest([Input([HELLO] * 10)], return_chunks=True), token_ids="native")
    assert (list(result.chunks[0].spans), list(result.chunks[0].token_counts)) == ([None] * 3, [4, 4, 2])


# --------------------------------------------------------------------------- prompts that pooling leaves out

AFTER_PROMPT = ("input_ids", "attention_mask", "pooling_mask")
QUERY_ROW = [CLS, QUERY, COLON]


def splits_of(tokenizer: Tokenizer, request: EmbedRequest, **settings: Any) -> list[tuple[list[int], int]]:
    """What the runtime is given, and where the second part of each row begins."""
    seen: list[tuple[list[int], int]] = []

    def run(rows: Rows) -> Matrix:
        seen.extend((list(row), getattr(row, "split", 0)) for row in rows)
        return counts(rows)

    embed(tokenizer, request, made=bundle(inputs=AFTER_PROMPT), run=run, **settings)
    return sorted(seen)


def test_rows_say_where_their_prompt_ends(tokenizer: Tokenizer) -> None:
    request = EmbedRequest([Input("hello", "query: "), Input("hello"), Input("", "query: ")])
    wanted = [([*QUERY_ROW, HELLO, SEP], 3), ([CLS, HELLO, SEP], 0), ([*QUERY_ROW, SEP], 3)]
    assert splits_of(tokenizer, request) == sorted(wanted)


def test_every_chunk_says_so(tokenizer: Tokenizer) -> None:
    found = splits_of(tokenizer, EmbedRequest([Input("hello world hello", "query: ")]))
    assert found == sorted([([*QUERY_ROW, HELLO, WORLD, SEP], 3), ([*QUERY_ROW, HELLO, SEP], 3)])


@pytest.mark.parametrize("side", list(TruncationSide))
def test_what_is_cut_off_says_so(tokenizer: Tokenizer, side: TruncationSide) -> None:
    request = EmbedRequest([Input("hello world world", "query: ")], long_input=LongInput.TRUNCATE, truncation_side=side)
    ((row, split),) = splits_of(tokenizer, request)
    assert (row[:3], len(row), split) == (QUERY_ROW, 6, 3)


def test_token_ids_of_the_models_own_say_so(tokenizer: Tokenizer) -> None:
    request = EmbedRequest([Input([CLS, HELLO, SEP], "query: ")])
    assert splits_of(tokenizer, request, token_ids="native") == [([*QUERY_ROW, HELLO, SEP], 3)]


def test_other_models_rows_are_plain(tokenizer: Tokenizer) -> None:
    seen: list[Any] = []

    def run(rows: Rows) -> Matrix:
        seen.extend(rows)
        return counts(rows)

    embed(tokenizer, EmbedRequest([Input("hello", "query: ")]), run=run)
    assert [getattr(row, "split", None) for row in seen] == [None]


def test_late_chunking_is_refused_where_the_prompt_is_not_pooled(tokenizer: Tokenizer) -> None:
    with pytest.raises(InvalidInput, match="Late chunking needs"):
        embed(tokenizer, EmbedRequest([Input(LONG, "query: ")], late=True), made=bundle(inputs=AFTER_PROMPT))


def test_tokens_for_people_are_given_up_when_nobody_waits_for_them(tokenizer_json: Path) -> None:
    begun, left, given_up = threading.Event(), threading.Event(), threading.Event()

    class Slow(Tokenizer):
        def pieces(self, *arguments: Any) -> list[list[Piece]]:
            begun.set()
            assert left.wait(20)
            try:
                return super().pieces(*arguments)
            except Abandoned:
                given_up.set()
                raise

    async def go() -> None:
        batcher, workers = Listed(counts, []), Workers(1, 1_000_000, "test")
        embedder = Embedder(bundle(), Slow(tokenizer_json), batcher, batcher, workers, ModelSettings(), 1000)
        asked = asyncio.create_task(embedder.tokenize(["hello"], "", False))
        assert await asyncio.to_thread(begun.wait, 20)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        left.set()
        await asyncio.to_thread(workers.close)
        await batcher.close()

    asyncio.run(go())
    assert given_up.is_set()


def test_requests_together_each_get_what_they_would_get_alone(tokenizer: Tokenizer) -> None:
    made = bundle(matryoshka_dimensions=[2], mean_of_tokens=True)
    requests = [
        EmbedRequest([Input("hello"), Input(LONG + "hello")], dimensions=2),
        EmbedRequest([Input("world " * 9, "query: ")], long_input=LongInput.TRUNCATE, normalize=True),
        EmbedRequest([Input("world", "query: "), Input(LONG)], chunking=Chunking(max_tokens=5), return_chunks=True),
        EmbedRequest([Input("hello world hello world hello")], chunking=Chunking(max_tokens=4), late=True),
    ]
    results, rows = embed_each(tokenizer, requests, made=made)
    expected_rows = []
    for request, found in zip(requests, results, strict=True):
        alone, own_rows = embed(tokenizer, request, made=made)
        expected_rows += own_rows
        np.testing.assert_array_equal(found.vectors, alone.vectors)
        assert [one.spans for one in found.chunks] == [one.spans for one in alone.chunks]
        assert [one.token_counts for one in found.chunks] == [one.token_counts for one in alone.chunks]
        for mine, its in zip(found.chunks, alone.chunks, strict=True):
            np.testing.assert_array_equal(mine.vectors, its.vectors)
        assert (found.tokens, found.truncated, found.rows) == (alone.tokens, alone.truncated, alone.rows)
        assert found.late == alone.late
    assert sorted(rows) == sorted(expected_rows)
    assert [one.computed_tokens > 0 for one in results] == [True, False, False, False]


def test_requests_together_are_one_to_the_limits(tokenizer: Tokenizer) -> None:
    """Inputs come in their order: what is wrong with the first of them is said."""
    plain, cut = EmbedRequest([Input(LONG)]), EmbedRequest([Input(LONG)], normalize=True)
    embed_each(tokenizer, [plain, cut], max_chunks=6, max_tokens=28)
    with pytest.raises(TooManyChunks):
        embed_each(tokenizer, [plain, cut], max_chunks=5)
    with pytest.raises(TooManyTokens) as refused:
        embed_each(tokenizer, [plain, cut], max_tokens=27)
    assert (refused.value.limit, refused.value.actual) == (27, 28)
    rejecting = EmbedRequest([Input(LONG)], long_input=LongInput.REJECT)
    with pytest.raises(InputTooLong):
        embed_each(tokenizer, [plain, rejecting, plain], max_chunks=5)
    with pytest.raises(TooManyChunks):
        embed_each(tokenizer, [plain, plain, rejecting], max_chunks=5)
