"""Long inputs in every dialect: what may be asked for, what comes back, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic.alias_generators import to_camel

from service.choices import OutputDtype
from service.postprocess import quantize
from tests.conftest import MakeBundle, StartServer
from tests.e2e.process import (
    MODEL,
    VERTEX_ENDPOINT,
    VERTEX_MODEL,
    Server,
    Vectors,
    assert_google_error,
    assert_openai_error,
    cosines,
)

Fields = dict[str, Any]

WORDS = ["cat", "dog", "sun", "sea", "tree", "bird", "rain", "snow", "wind", "fire", "stone"]  # a token each
LINE = " ".join(WORDS) + ". "
PROSE = f"{LINE * 4}\n\n{LINE * 3}" * 4
DOCUMENT = (
    f"{PROSE}\n\nНаивысшая точка — гора. Ελληνικά κείμενα!\n\n"
    + "富士山は日本で一番高い山です。湖も五つあります。" * 6
    + "\n\n"
    + "👩‍👩‍👧‍👦 sat 🌋 by the sea. e\u0301te\u0301 नमस्ते दुनिया। " * 6
)
PLACES = {"chunking": {"max_tokens": 64}, "return_chunks": True}


def counted(words: int) -> str:
    """A text of so many tokens, without sentences."""
    return " ".join(WORDS[i % len(WORDS)] for i in range(words))


# --- the dialects ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """One text's answer."""

    vector: Vectors
    chunks: list[dict[str, Any]] | None = None
    late: bool | None = None


@dataclass(frozen=True)
class Dialect:
    """How to ask, and how to read replies; the words for the end that is cut off are the dialect's own."""

    path: str
    body: Callable[[str, Fields], Any]
    items: Callable[[Any], list[Item]]
    check_error: Callable[[httpx.Response, int], object]
    side: Callable[[str], Fields] = lambda side: {"truncation_side": side}
    invalid: int = 400
    too_much: int = 400

    def post(self, server: Server, text: str, **fields: Any) -> httpx.Response:
        return server.post(self.path, self.body(text, fields))

    def ask(self, server: Server, text: str, **fields: Any) -> Item:
        reply = self.post(server, text, **fields)
        assert reply.status_code == 200, reply.text
        (item,) = self.items(reply.json())
        return item

    def refuse(self, server: Server, text: str, status: int | None = None, **fields: Any) -> str:
        reply = self.post(server, text, **fields)
        self.check_error(reply, self.invalid if status is None else status)
        return reply.text


def camel(value: Any) -> Any:
    return {to_camel(key): camel(inner) for key, inner in value.items()} if isinstance(value, dict) else value


def item(vector: Any, found: Fields) -> Item:
    return Item(numbers(vector), found.get("chunks"), found.get("late"))


def numbers(embedding: Any) -> Vectors:
    if isinstance(embedding, str):
        return np.frombuffer(base64.b64decode(embedding), "<f4")
    return np.asarray(embedding, dtype=np.float32)


def openai_items(body: Any) -> list[Item]:
    return [item(one["embedding"], one) for one in body["data"]]


def google_items(embeddings: Sequence[Any]) -> list[Item]:
    return [item(one["values"], one) for one in embeddings]


def cohere_items(body: Any) -> list[Item]:
    rows = body["embeddings"] if isinstance(body["embeddings"], list) else body["embeddings"]["float"]
    return [
        Item(numbers(row), body["chunks"][i] if "chunks" in body else None, body["late"][i] if "late" in body else None)
        for i, row in enumerate(rows)
    ]


def bare(rows: Any) -> list[Item]:
    return [Item(numbers(row)) for row in rows]


def body_has(*keys: str) -> Callable[[httpx.Response, int], None]:
    def check(reply: httpx.Response, status: int) -> None:
        assert reply.status_code == status, reply.text
        assert set(reply.json()) == set(keys)

    return check


def openai(**more: Any) -> Dialect:
    return Dialect(
        "/v1/embeddings", lambda text, fields: {"input": text, **more, **fields}, openai_items, assert_openai_error
    )


def content(text: str) -> Fields:
    return {"content": {"parts": [{"text": text}]}}


def embed_content(path: str, body: Callable[[str, Fields], Any]) -> Dialect:
    return Dialect(path, body, lambda reply: google_items([reply["embedding"]]), assert_google_error)


def batch_embed_contents(path: str) -> Dialect:
    return Dialect(
        path,
        lambda text, fields: {"requests": [content(text) | fields]},
        lambda reply: google_items(reply["embeddings"]),
        assert_google_error,
    )


def cohere(version: str) -> Dialect:
    sides = {"left": {"truncate": "START"}, "right": {"truncate": "END"}}
    return Dialect(
        f"/v{version}/embed", lambda text, fields: {"texts": [text], **fields}, cohere_items, body_has("message"),
        sides.__getitem__,
    )  # fmt: skip


def tei(path: str, body: Callable[[str, Fields], Any], items: Callable[[Any], list[Item]]) -> Dialect:
    check, side = body_has("error", "error_type"), lambda side: {"truncation_direction": side}
    return Dialect(path, body, items, check, side, invalid=422, too_much=413)


VERTEX_CONTENTS = VERTEX_MODEL.removesuffix(":predict")
GEMINI = f"/v1beta/models/{MODEL}"
WITH_CHUNKS = {
    "openai": openai(),
    "openai base64": openai(encoding_format="base64"),
    "vertex": Dialect(
        VERTEX_MODEL,
        lambda text, fields: {"instances": [{"content": text}], "parameters": camel(fields)},
        lambda reply: google_items([one["embeddings"] for one in reply["predictions"]]),
        assert_google_error,
    ),
    "vertex embedContent": embed_content(
        f"{VERTEX_CONTENTS}:embedContent", lambda text, fields: content(text) | {"embedContentConfig": camel(fields)}
    ),
    "vertex batchEmbedContents": batch_embed_contents(f"{VERTEX_CONTENTS}:batchEmbedContents"),
    "gemini": embed_content(f"{GEMINI}:embedContent", lambda text, fields: content(text) | fields),
    "gemini batchEmbedContents": batch_embed_contents(f"{GEMINI}:batchEmbedContents"),
    "cohere": cohere("2"),
    "cohere 1": cohere("1"),
}
VECTORS_ALONE = {
    "kserve 1": Dialect(
        f"/v1/models/{MODEL}:predict",
        lambda text, fields: {"instances": [text], "parameters": fields},
        lambda reply: bare(reply["predictions"]),
        body_has("error"),
    ),
    "kserve 2": Dialect(
        f"/v2/models/{MODEL}/infer",
        lambda text, fields: {
            "inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": [text]}],
            "parameters": fields,
        },
        lambda reply: bare([reply["outputs"][0]["data"]]),
        body_has("error"),
    ),
    "tei": tei("/embed", lambda text, fields: {"inputs": text, **fields}, bare),
    "tei root": tei("/", lambda text, fields: {"inputs": [text], **fields}, bare),
}
ALL = WITH_CHUNKS | VECTORS_ALONE
SIMILARITY = tei(
    "/similarity",
    lambda text, fields: {"inputs": {"source_sentence": text, "sentences": [text]}, "parameters": fields},
    lambda scores: bare([scores]),
)


def over(dialects: dict[str, Dialect]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("dialect", dialects.values(), ids=dialects)


@pytest.fixture(scope="module")
def strict_limits(launch: StartServer) -> Server:
    """Settings for all that a request may also ask for, and limits."""
    return launch(
        "--return-chunks", "--chunk-max-tokens", "64", "--chunk-overlap", "8", "--chunk-boundary", "word",
        "--max-input-tokens", "600", "--max-chunks", "8",
    )  # fmt: skip


@pytest.fixture(scope="module")
def cutting(launch: StartServer) -> Server:
    """What is too long loses its beginning."""
    return launch("--long-input", "truncate", "--truncation-side", "left")


# --- chunks ---------------------------------------------------------------------------------------------------


def chunk_vectors(found: Item) -> Vectors:
    """(chunks, dimensions)."""
    assert found.chunks is not None
    assert [one["index"] for one in found.chunks] == list(range(len(found.chunks)))
    return np.array([numbers(one["embedding"]) for one in found.chunks])


def assert_is_the_weighted_mean(found: Item) -> None:
    vectors = chunk_vectors(found)
    mean = np.average(vectors.astype(np.float64), axis=0, weights=[one["token_count"] for one in found.chunks or ()])
    assert np.abs(mean / np.linalg.norm(mean) - found.vector).max() <= 1e-5


def assert_covers(text: str, found: Item) -> None:
    """Every character that is not white space, exactly once."""
    times = np.zeros(len(text), dtype=int)
    for chunk in found.chunks or ():
        times[chunk["start"] : chunk["end"]] += 1
    wanted = np.array([not character.isspace() for character in text])
    assert np.all(times[wanted] == 1)
    assert times.max() <= 1


@over(WITH_CHUNKS)
def test_chunks_and_their_places(server: Server, dialect: Dialect) -> None:
    found = dialect.ask(server, DOCUMENT, **PLACES)
    assert found.chunks is not None
    assert len(found.chunks) > 10
    assert max(one["token_count"] for one in found.chunks) <= 62
    assert_is_the_weighted_mean(found)
    assert_covers(DOCUMENT, found)
    alone = server.embed([DOCUMENT[one["start"] : one["end"]] for one in found.chunks])
    assert cosines(chunk_vectors(found), alone).min() > 0.99999
    assert found.late is None


@over(WITH_CHUNKS)
def test_a_text_that_fits_is_its_own_chunk(server: Server, dialect: Dialect) -> None:
    found = dialect.ask(server, " cats and dogs\n", return_chunks=True)
    assert found.chunks is not None
    (chunk,) = found.chunks
    assert (chunk["start"], chunk["end"], chunk["token_count"]) == (1, 14, 3)
    assert np.array_equal(numbers(chunk["embedding"]), found.vector)


@over(WITH_CHUNKS)
def test_nobody_gets_chunks_unasked(server: Server, dialect: Dialect) -> None:
    plain = dialect.ask(server, "a")
    same = dialect.ask(server, "a", return_chunks=False, chunking=None, late=None, long_input=None)
    assert (plain.chunks, plain.late) == (same.chunks, same.late) == (None, None)
    assert np.array_equal(plain.vector, same.vector)


@over(ALL)
def test_all_dialects_chunk_alike(server: Server, dialect: Dialect) -> None:
    wish = {"max_tokens": 100, "overlap": 20, "boundary": "sentence", "aggregation": "max"}
    found = dialect.ask(server, PROSE, chunking=wish).vector[np.newaxis]
    assert cosines(found, server.embed(PROSE, chunking=wish)).min() > 0.999999
    for one in wish:
        other = {name: value for name, value in wish.items() if name != one}
        assert cosines(found, dialect.ask(server, PROSE, chunking=other).vector[np.newaxis]).max() < 0.999999


@pytest.mark.parametrize(
    "text",
    [
        "\n" * 3000,
        "x" * 5000,
        "富士山" * 500,
        "👩‍👩‍👧‍👦" * 150,
        "𝒜𝓑 💡 " * 200,  # each is two units of UTF-16, and one code point
        "a b\u3000日本 ж 😀\u200d\n" * 100,
        "word\u00a0" * 300,
        "e\u0301\u200b\ufeff" * 400,
    ],
    ids=lambda text: ascii(text[:6]),
)
def test_odd_texts(server: Server, text: str) -> None:
    found = ALL["openai"].ask(server, text, **PLACES)
    assert_covers(text, found)
    if text.strip():
        assert_is_the_weighted_mean(found)
        assert (found.chunks or [{}])[-1]["end"] == len(text.rstrip())


@over(ALL)
def test_half_a_pair_of_utf16_is_not_a_text(server: Server, dialect: Dialect) -> None:
    """JSON can write it; no UTF-8 can hold it."""
    dialect.refuse(server, "\ud800", status=400, return_chunks=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_chunks_are_of_the_items_dtype(server: Server, dtype: str) -> None:
    plain = chunk_vectors(ALL["openai"].ask(server, DOCUMENT, **PLACES))
    expected = quantize(plain, OutputDtype(dtype)).astype(np.float32)
    found = ALL["openai"].ask(server, DOCUMENT, output_dtype=dtype, **PLACES)
    assert np.abs(chunk_vectors(found) - expected).max() <= 1
    body = ALL["cohere"].post(server, DOCUMENT, embedding_types=[dtype, "float"], **PLACES).json()
    (chunks,) = body["chunks"]
    assert np.array_equal([one["embedding"] for one in chunks], chunk_vectors(found))


def test_shortened_vectors_have_shortened_chunks(launch: StartServer, make_bundle: MakeBundle) -> None:
    short = launch(model=make_bundle(matryoshka_dimensions=[64]))
    found = ALL["openai"].ask(short, DOCUMENT, dimensions=64, **PLACES)
    assert chunk_vectors(found).shape[1] == 64
    assert np.abs(np.linalg.norm(chunk_vectors(found), axis=1) - 1).max() < 1e-5


def test_each_text_has_its_own(server: Server) -> None:
    texts = ["short", PROSE, "also short"]
    bodies = {
        "openai": {"input": texts, **PLACES},
        "vertex": {"instances": [{"content": text} for text in texts], "parameters": camel(PLACES)},
        "gemini batchEmbedContents": {"requests": [content(text) | PLACES for text in texts]},
        "cohere": {"texts": texts, **PLACES},
    }
    for name, body in bodies.items():
        items = ALL[name].items(server.post(ALL[name].path, body).json())
        assert [len(one.chunks or ()) for one in items] == [1, len(items[1].chunks or ()), 1]
        assert_covers(PROSE, items[1])
        assert cosines(np.array([one.vector for one in items[::2]]), server.embed(texts[::2])).min() > 0.999999


def test_token_ids_have_no_places(launch: StartServer) -> None:
    native = launch("--token-ids", "native")
    reply = native.post("/v1/embeddings", {"input": [list(range(2000, 2150))], **PLACES}).json()
    (found,) = openai_items(reply)
    assert [one["token_count"] for one in found.chunks or ()] == [62, 62, 26]
    assert {one["start"] for one in found.chunks or ()} == {one["end"] for one in found.chunks or ()} == {None}


# --- Google's own ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vertex", "vertex embedContent", "vertex batchEmbedContents", "gemini"])
def test_googles_dialects_read_both_spellings_and_numbers_as_sdks_write_them(server: Server, name: str) -> None:
    dialect = ALL[name]
    fields = {"chunking": {"max_tokens": 64.0, "overlap": 4.0}, "return_chunks": True}
    found = [server.post(dialect.path, spelt(dialect.body(PROSE, {}), fields)) for spelt in (snake_body, camel_body)]
    assert found[0].json() == found[1].json()
    (only,) = dialect.items(found[0].json())
    assert len(only.chunks or ()) > 5


def snake_body(body: Any, fields: Fields) -> Any:
    if "requests" in body:
        return {"requests": [one | fields for one in body["requests"]]}
    return body | ({"parameters": fields} if "instances" in body else fields)


def camel_body(body: Any, fields: Fields) -> Any:
    return snake_body(body, camel(fields))


def test_requests_of_one_batch_may_ask_for_different_things(server: Server) -> None:
    wishes: list[Fields] = [
        PLACES,
        {},
        {"autoTruncate": True, "truncationSide": "left"},
        {"autoTruncate": True},
        {"chunking": {"max_tokens": 64, "aggregation": "first"}},
        {"late": True},
        PLACES,
    ]
    text = counted(400)
    for name in ("vertex batchEmbedContents", "gemini batchEmbedContents"):
        reply = server.post(ALL[name].path, {"requests": [content(text) | wish for wish in wishes]})
        items = ALL[name].items(reply.json())
        assert [one.chunks is not None for one in items] == [wish is PLACES for wish in wishes]
        assert [one.late for one in items] == [None] * 5 + [False, None]
        words = text.split()
        expected = [text, " ".join(words[-254:]), " ".join(words[:254]), " ".join(words[:62])]
        assert cosines(np.array([one.vector for one in items[1:5]]), server.embed(expected)).min() > 0.999999
        assert reply.headers["x-truncated-inputs"] == "3"
        assert reply.headers["x-late-fallback-inputs"] == "1"


def test_embed_content_config_wins(server: Server) -> None:
    older = {"chunking": {"maxTokens": 32, "aggregation": "first"}, "returnChunks": False, "longInput": "truncate"}
    newer = {"chunking": {"maxTokens": 128}, "returnChunks": True, "longInput": "chunk"}
    path = f"{VERTEX_CONTENTS}:embedContent"
    body = content(PROSE) | older | {"embedContentConfig": newer}
    (found,) = google_items([server.post(path, body).json()["embedding"]])
    assert max(one["token_count"] for one in found.chunks or ()) > 64
    assert_is_the_weighted_mean(found)


def test_places_are_in_all_parts_together(server: Server) -> None:
    parts = [LINE * 5, "🌋 " * 20, LINE * 5]
    body = {"content": {"parts": [{"text": part} for part in parts]}} | PLACES
    (found,) = google_items([server.post(f"{GEMINI}:embedContent", body).json()["embedding"]])
    assert_covers("\n".join(parts), found)


@pytest.mark.parametrize("prompts", [{}, {"document": "title: {title} | text: "}, {"document": "passage: "}])
def test_a_title_stands_before_every_chunk_and_moves_no_place(
    launch: StartServer, make_bundle: MakeBundle, prompts: dict[str, str]
) -> None:
    titled = launch(model=make_bundle(prompts=prompts))
    task = {"task_type": "RETRIEVAL_DOCUMENT", "title": "Pets 🐈"}
    body = {"instances": [{"content": DOCUMENT} | task], "parameters": PLACES}
    (found,) = ALL["vertex"].items(titled.post(VERTEX_MODEL, body).json())
    assert_covers(DOCUMENT, found)
    assert_is_the_weighted_mean(found)
    parts = [{"content": DOCUMENT[one["start"] : one["end"]]} | task for one in found.chunks or ()]
    alone = ALL["vertex"].items(titled.post(VERTEX_MODEL, {"instances": parts}).json())
    assert cosines(chunk_vectors(found), np.array([one.vector for one in alone])).min() > 0.99999


def test_bare_arrays_have_no_room(server: Server, strict_limits: Server) -> None:
    bodies: list[Fields] = [{"instances": [{"prompt": "a"}]}, {"instances": [{"content": "a"}, {"prompt": "a"}]}]
    for body in bodies:
        error = assert_google_error(server.post(VERTEX_ENDPOINT, body | {"parameters": {"returnChunks": True}}), 400)
        assert "no room for chunks" in error["message"]
        assert isinstance(strict_limits.post(VERTEX_ENDPOINT, body).json()["predictions"][-1], list)


# --- cut off, or refused --------------------------------------------------------------------------------------


@over(ALL)
def test_truncated_at_either_end(server: Server, dialect: Dialect) -> None:
    text = counted(400)
    words = text.split()
    for side, kept in {"left": words[-254:], "right": words[:254]}.items():
        fields = {"long_input": "truncate"} | dialect.side(side)
        reply = dialect.post(server, text, **fields)
        assert reply.headers["x-truncated-inputs"] == "1"
        (found,) = dialect.items(reply.json())
        assert cosines(found.vector[np.newaxis], server.embed(" ".join(kept))).min() > 0.999999
        assert "x-truncated-inputs" not in dialect.post(server, "short", **fields).headers


@over(WITH_CHUNKS)
def test_what_is_left_of_a_truncated_text_is_its_chunk(server: Server, dialect: Dialect) -> None:
    text = counted(400)
    found = dialect.ask(server, text, long_input="truncate", return_chunks=True, **dialect.side("left"))
    assert found.chunks is not None
    (chunk,) = found.chunks
    assert text[chunk["start"] : chunk["end"]] == " ".join(text.split()[-254:])


@over(ALL)
def test_the_settings_rule_what_nobody_asks_for(cutting: Server, dialect: Dialect) -> None:
    text = counted(400)
    reply = dialect.post(cutting, text)
    assert reply.headers["x-truncated-inputs"] == "1"
    (found,) = dialect.items(reply.json())
    assert cosines(found.vector[np.newaxis], cutting.embed(" ".join(text.split()[-254:]))).min() > 0.999999
    right = dialect.ask(cutting, text, long_input="truncate", **dialect.side("right")).vector[np.newaxis]
    assert cosines(right, cutting.embed(" ".join(text.split()[:254]))).min() > 0.999999
    assert "x-truncated-inputs" not in dialect.post(cutting, text, long_input="chunk").headers
    assert "x-truncated-inputs" not in dialect.post(cutting, text, chunking={"max_tokens": 64}).headers


@over(ALL)
def test_rejected(server: Server, dialect: Dialect) -> None:
    message = dialect.refuse(server, counted(400), status=dialect.too_much, long_input="reject")
    assert "402" in message
    assert "256" in message
    assert np.array_equal(dialect.ask(server, "a", long_input="reject").vector, dialect.ask(server, "a").vector)


def test_vertex_says_in_its_own_words_what_was_cut(server: Server) -> None:
    for fields in ({"long_input": "truncate"}, {"autoTruncate": True, "longInput": "truncate"}):
        (one,) = server.predict(counted(400), **fields)["predictions"]
        assert one["embeddings"]["statistics"] == {"token_count": 402, "truncated": True}
    (one,) = server.predict(counted(400), longInput="chunk")["predictions"]
    assert one["embeddings"]["statistics"] == {"token_count": 402, "truncated": False}


def test_coheres_max_tokens_may_refuse_as_well(server: Server) -> None:
    body = {"texts": ["three four five"], "max_tokens": 4}
    assert server.post("/v2/embed", body).headers["x-truncated-inputs"] == "1"
    refusal = server.post("/v2/embed", body | {"long_input": "reject"})
    ALL["cohere"].check_error(refusal, 400)
    assert "at most 4 tokens - received 5" in refusal.text
    reply = server.post("/v2/embed", body | {"long_input": "truncate", "truncate": "START"}).json()
    assert cosines(numbers(reply["embeddings"]["float"]), server.embed("four five")).min() > 0.999999


# --- late chunking --------------------------------------------------------------------------------------------


@over(WITH_CHUNKS)
def test_late_chunking(server: Server, dialect: Dialect) -> None:
    text = LINE * 18  # 216 tokens
    reply = dialect.post(server, text, late=True, **PLACES)
    (found,) = dialect.items(reply.json())
    assert found.late is True
    assert "x-late-fallback-inputs" not in reply.headers
    assert len(found.chunks or ()) == 4
    assert_is_the_weighted_mean(found)
    assert_covers(text, found)
    alone = server.embed([text[one["start"] : one["end"]] for one in found.chunks or ()])
    assert cosines(chunk_vectors(found), alone).max() < 0.9999  # each knows of the others


@over(WITH_CHUNKS)
def test_what_does_not_fit_is_chunked_as_usual_and_says_so(server: Server, dialect: Dialect) -> None:
    reply = dialect.post(server, PROSE, late=True, **PLACES)
    (found,) = dialect.items(reply.json())
    assert found.late is False
    assert reply.headers["x-late-fallback-inputs"] == "1"
    usual = dialect.ask(server, PROSE, **PLACES)
    assert cosines(chunk_vectors(found), chunk_vectors(usual)).min() > 0.999999


@over(VECTORS_ALONE)
def test_late_chunking_of_bare_vectors(server: Server, dialect: Dialect) -> None:
    fields = {"late": True, "chunking": {"max_tokens": 64}}
    reply = dialect.post(server, LINE * 18, **fields)
    (found,) = dialect.items(reply.json())
    assert cosines(found.vector[np.newaxis], server.embed(LINE * 18, **fields)).min() > 0.999999
    assert "x-late-fallback-inputs" not in reply.headers
    assert dialect.post(server, PROSE, **fields).headers["x-late-fallback-inputs"] == "1"


def test_late_as_a_setting(launch: StartServer) -> None:
    late = launch("--late-chunking", "--chunk-max-tokens", "64")
    assert ALL["vertex"].ask(late, LINE * 18).late is True
    assert ALL["cohere"].ask(late, PROSE).late is False
    assert ALL["gemini"].ask(late, PROSE, late=False).late is None
    assert ALL["openai"].ask(late, PROSE, truncate=True).late is None
    assert late.post("/embed_all", {"inputs": "a"}).status_code == 200


# --- settings and limits --------------------------------------------------------------------------------------


@over(WITH_CHUNKS)
def test_chunks_as_the_settings_say(strict_limits: Server, dialect: Dialect) -> None:
    text = counted(200)
    found = dialect.ask(strict_limits, text)
    assert found.chunks is not None
    assert max(one["token_count"] for one in found.chunks) == 62
    for before, after in zip(found.chunks, found.chunks[1:], strict=False):
        assert len(text[after["start"] : before["end"]].split()) == 8
    assert dialect.ask(strict_limits, text, return_chunks=False).chunks is None
    assert len(dialect.ask(strict_limits, text, chunking={"max_tokens": 128, "overlap": 0}).chunks or ()) == 2


@over(VECTORS_ALONE)
def test_where_there_is_no_room_the_setting_breaks_nothing(strict_limits: Server, dialect: Dialect) -> None:
    text = counted(200)
    found = dialect.ask(strict_limits, text).vector[np.newaxis]
    assert cosines(found, strict_limits.embed(text)).min() > 0.999999


@over(VECTORS_ALONE | {"tei similarity": SIMILARITY})
def test_where_there_is_no_room_the_wish_is_refused(server: Server, dialect: Dialect) -> None:
    assert "no room for chunks" in dialect.refuse(server, "a", return_chunks=True)
    assert dialect.post(server, "a", return_chunks=False).status_code == 200


@over(ALL)
def test_limits(strict_limits: Server, dialect: Dialect) -> None:
    assert dialect.ask(strict_limits, counted(400)).vector.any()  # 8 chunks
    assert "more than 8 chunks" in dialect.refuse(strict_limits, counted(550), status=dialect.too_much)
    message = dialect.refuse(strict_limits, counted(599), status=dialect.too_much)
    assert "601" in message
    assert "600" in message
    strict_limits.assert_well()


# --- bad input ------------------------------------------------------------------------------------------------

BAD: list[Fields] = [
    {"long_input": "cut"},
    {"long_input": 3},
    {"chunking": []},
    {"chunking": "word"},
    {"chunking": {"size": 64}},
    {"chunking": {"max_tokens": 64, "over": 3}},
    {"chunking": {"max_tokens": "64"}},
    {"chunking": {"max_tokens": True}},
    {"chunking": {"max_tokens": 64.5}},
    {"chunking": {"max_tokens": [64]}},
    {"chunking": {"max_tokens": 0}},
    {"chunking": {"max_tokens": 2}},
    {"chunking": {"max_tokens": 257}},
    {"chunking": {"max_tokens": 10**30}},
    {"chunking": {"overlap": -1}},
    {"chunking": {"overlap": "3"}},
    {"chunking": {"overlap": False}},
    {"chunking": {"overlap": 254}},
    {"chunking": {"max_tokens": 64, "overlap": 62}},
    {"chunking": {"boundary": "line"}},
    {"chunking": {"boundary": 1}},
    {"chunking": {"aggregation": "median"}},
    {"return_chunks": "maybe"},
    {"return_chunks": {}},
    {"late": []},
    {"late": 2},
    {"long_input": "truncate", "chunking": {"max_tokens": 64}},
    {"long_input": "truncate", "late": True},
    {"long_input": "reject", "chunking": {"overlap": 0}},
    {"long_input": "reject", "late": True},
]


@over(ALL | {"tei similarity": SIMILARITY})
@pytest.mark.parametrize("fields", BAD, ids=str)
def test_refused(server: Server, dialect: Dialect, fields: Fields) -> None:
    """Also where no input is too long."""
    dialect.refuse(server, "a", **fields)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        *(("openai", {"truncate": "END", **ours}) for ours in ({"long_input": "chunk"}, {"chunking": {"overlap": 1}})),
        ("openai", {"truncate_prompt_tokens": 9, "late": True}),
        *(
            (name, {"auto_truncate": truncate, **ours})
            for name in ("vertex", "vertex embedContent", "vertex batchEmbedContents", "gemini")
            for truncate in (True, False)
            for ours in ({"long_input": "chunk"}, {"chunking": {"max_tokens": 64}}, {"late": True})
        ),
        ("vertex", {"auto_truncate": True, "long_input": "reject"}),
        ("vertex", {"auto_truncate": False, "long_input": "truncate"}),
        *(("cohere", {"truncate": word, "long_input": "chunk"}) for word in ("NONE", "START", "END")),
        *(("cohere", {"truncate": word, "chunking": {"max_tokens": 64}}) for word in ("NONE", "START", "END")),
        ("cohere", {"truncate": "NONE", "long_input": "truncate"}),
        ("cohere", {"max_tokens": 9, "long_input": "chunk"}),
        ("cohere", {"max_tokens": 9, "chunking": {"max_tokens": 64}}),
        ("cohere 1", {"max_tokens": 9, "late": True}),
        ("tei", {"truncate": True, "long_input": "chunk"}),
        ("tei", {"truncate": False, "chunking": {"max_tokens": 64}}),
        ("tei root", {"truncate": True, "late": True}),
    ],
    ids=str,
)
def test_words_that_contradict_each_other(server: Server, name: str, fields: Fields) -> None:
    ALL[name].refuse(server, "a", **fields)


@pytest.mark.parametrize("name", ["vertex", "vertex embedContent", "gemini", "kserve 1", "kserve 2"])
def test_there_are_two_sides(server: Server, name: str) -> None:
    for side in ("middle", "LEFT", 1):
        ALL[name].refuse(server, "a", truncation_side=side)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"chunking": {"max_tokens": 64}}, "reads an input as a whole"),
        ({"late": True}, "reads an input as a whole"),
        ({"long_input": "chunk"}, "reads an input as a whole"),
        ({"return_chunks": True}, "no room for chunks"),
    ],
)
def test_token_vectors_are_of_whole_inputs(server: Server, fields: Fields, why: str) -> None:
    reply = server.post("/embed_all", {"inputs": "a", **fields})
    VECTORS_ALONE["tei"].check_error(reply, 422)
    assert why in reply.text


def test_token_vectors_of_a_truncated_input(server: Server) -> None:
    for fields in ({"long_input": "truncate"}, {"long_input": "truncate", "truncation_direction": "Left"}):
        (states,) = server.post("/embed_all", {"inputs": counted(400), **fields}).json()
        assert len(states) == 256
    reply = server.post("/embed_all", {"inputs": counted(400), "long_input": "reject"})
    VECTORS_ALONE["tei"].check_error(reply, 413)


def test_similarity_takes_the_same_parameters(server: Server) -> None:
    body = {"source_sentence": PROSE, "sentences": ["the cat sat by the sea", PROSE]}
    for parameters in ({"chunking": {"max_tokens": 64}}, {"long_input": "truncate"}, {"late": True}):
        (first, same) = server.post("/similarity", {"inputs": body, "parameters": parameters}).json()
        vectors = server.embed([PROSE, body["sentences"][0]], **parameters)
        assert abs(first - float(vectors[0] @ vectors[1])) < 1e-5
        assert abs(same - 1) < 1e-5
