"""text-embeddings-inference's routes, as its users call them."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

import service
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import DIMENSIONS, MODEL, Server, Vectors, cosines

LONG = "The quick brown fox jumps over the lazy dog. " * 100
PROMPTS = {"query": "query: ", "document": "passage: "}
KEY = "sk-e2e-0123456789abcdef"


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have prompts and a shorter dimension."""
    return launch(model=make_bundle(prompts=PROMPTS, matryoshka_dimensions=[64]))


@pytest.fixture(scope="module")
def strict(launch: StartServer) -> Server:
    """Nothing that could be refused is taken, and little at once."""
    return launch("--long-input", "reject", "--token-ids", "reject", "--strict", "--max-inputs", "4")


def vectors_of(reply: httpx.Response) -> Vectors:
    assert reply.status_code == 200, reply.text
    return np.asarray(reply.json(), dtype=np.float32)


def embed(server: Server, inputs: Any, path: str = "/embed", **fields: Any) -> Vectors:
    return vectors_of(server.post(path, {"inputs": inputs, **fields}))


def refuse(server: Server, path: str, body: Any, status: int, kind: str = "Validation") -> str:
    """The message of an error in TEI's shape."""
    reply = server.post(path, body)
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    found = reply.json()
    assert set(found) == {"error", "error_type"}
    assert found["error_type"] == kind
    message: str = found["error"]
    assert message
    return message


# --- /embed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_texts(server: Server, golden: Golden, path: str) -> None:
    one, many = embed(server, golden.texts[0], path), embed(server, golden.texts, path)
    assert cosines(one, golden.vectors[:1]).min() >= 0.99999
    assert cosines(many, golden.vectors).min() >= 0.99999


def test_usage_is_in_headers(server: Server, golden: Golden) -> None:
    reply = server.post("/embed", {"inputs": golden.texts})
    assert reply.headers["x-compute-tokens"] == str(golden.tokens.sum())
    assert reply.headers["x-compute-characters"] == str(sum(map(len, golden.texts)))
    assert "x-truncated-inputs" not in reply.headers


def test_token_ids_are_the_models_own(server: Server, golden: Golden) -> None:
    text = golden.texts[0]
    (tokens,) = server.post("/tokenize", {"inputs": text}).json()
    ids = [token["id"] for token in tokens]
    plain = [token["id"] for token in tokens if not token["special"]]
    for inputs in (ids, [ids], [plain]):
        assert cosines(embed(server, inputs), golden.vectors[:1]).min() >= 0.99999
    mixed = embed(server, [golden.texts[1], ids])
    assert cosines(mixed, golden.vectors[[1, 0]]).min() >= 0.99999


def test_nulls_and_unknown_fields_mean_the_default(server: Server, golden: Golden) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ["truncate", "truncation_direction", "prompt_name", "normalize", "dimensions"]
    )
    found = embed(server, golden.texts[0], **nothing, novelty={"a": [1]}, encoding_format="base64")
    assert cosines(found, golden.vectors[:1]).min() >= 0.99999


def test_truncation_at_either_end(server: Server) -> None:
    beginning, end = "Cats purr. ", "Rockets fly to Mars."
    text = beginning + LONG + end
    right, left, whole = (
        server.post("/embed", {"inputs": text, **fields})
        for fields in (
            {"truncate": True},
            {"truncate": True, "truncation_direction": "Left"},
            {},
        )
    )
    assert right.headers["x-truncated-inputs"] == left.headers["x-truncated-inputs"] == "1"
    assert "x-truncated-inputs" not in whole.headers
    rows = np.concatenate([vectors_of(reply) for reply in (right, left, whole)])
    assert cosines(rows[[0, 0, 1]], rows[[1, 2, 2]]).max() < 0.9999
    assert cosines(rows[:1], embed(server, beginning + LONG, truncate=True)).min() >= 0.99999
    lower = embed(server, text, truncate=True, truncation_direction="left")
    assert cosines(lower, embed(server, LONG + end, truncate=True, truncation_direction="Left")).min() >= 0.99999


def test_truncate_false_refuses(server: Server) -> None:
    message = refuse(server, "/embed", {"inputs": ["a", LONG], "truncate": False}, 413)
    assert message.startswith("Input validation error: `inputs` must have less than 256 tokens. Given: ")


def test_prompts(prompted: Server) -> None:
    named = embed(prompted, ["cats", "dogs"], prompt_name="query")
    assert cosines(named, embed(prompted, ["query: cats", "query: dogs"])).min() >= 0.99999
    message = refuse(prompted, "/embed", {"inputs": "a", "prompt_name": "nope"}, 422)
    assert message.endswith('Available prompts: ["query", "document"]')


def test_dimensions(prompted: Server, server: Server, golden: Golden) -> None:
    found = embed(prompted, golden.texts, dimensions=64)
    assert found.shape == (len(golden.texts), 64)
    assert cosines(found, golden.vectors[:, :64]).min() >= 0.99999
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5
    refuse(server, "/embed", {"inputs": "a", "dimensions": 64}, 422)


def test_normalize(server: Server, golden: Golden) -> None:
    """A model that normalises by itself cannot be told not to."""
    for normalize in (True, False):
        found = embed(server, golden.texts[:1], normalize=normalize)
        assert np.abs(found - golden.vectors[:1]).max() <= 1e-4


@pytest.mark.parametrize("inputs", ["", [""], ["a", ""]])
def test_empty_texts_are_embedded(server: Server, inputs: Any) -> None:
    assert embed(server, inputs).shape[1] == DIMENSIONS


@pytest.mark.parametrize("path", ["/embed", "/", "/embed_all", "/similarity", "/tokenize", "/decode"])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b'{"inputs": "\xff"}', 400),
        ([], 422),
        ({}, 422),
        ({"inputs": None, "ids": None}, 422),
        ({"inputs": 1, "ids": 1}, 422),
        ({"inputs": True, "ids": True}, 422),
        ({"inputs": [None], "ids": [None]}, 422),
        ({"inputs": ["a", 1], "ids": [1, "a"]}, 422),
        ({"inputs": ["a", [True]], "ids": [[True]]}, 422),
        ({"inputs": [1, "a"], "ids": [1, [1]]}, 422),
        ({"inputs": [1.5], "ids": [1.5]}, 422),
        ({"inputs": [-1], "ids": [-1]}, 422),
        ({"inputs": [2**32], "ids": [2**32]}, 422),
        ({"inputs": {"text": "a"}, "ids": {}}, 422),
        ({"inputs": [[["a"]]], "ids": [[[1]]]}, 422),
    ],
)
def test_wrong_bodies(server: Server, path: str, body: Any, status: int) -> None:
    refuse(server, path, body, status)
    server.assert_well()


@pytest.mark.parametrize("path", ["/embed", "/"])
@pytest.mark.parametrize(
    "fields",
    [
        {"truncate": "END"},
        {"truncate": 1},
        {"truncation_direction": "Up"},
        {"prompt_name": 1},
        {"prompt_name": "query"},
        {"normalize": "yes"},
        {"dimensions": 0},
        {"dimensions": "64"},
        {"dimensions": 10**30},
    ],
)
def test_wrong_fields(server: Server, path: str, fields: dict[str, Any]) -> None:
    refuse(server, path, {"inputs": "a", **fields}, 422)


@pytest.mark.parametrize("path", ["/embed", "/"])
def test_nothing_to_embed(server: Server, path: str) -> None:
    nothings: list[Any] = [[], [[]], ["a", []], [[1], []]]
    for inputs in nothings:
        refuse(server, path, {"inputs": inputs}, 400, "Empty")


def test_token_ids_outside_the_vocabulary(server: Server) -> None:
    assert "2000000" in refuse(server, "/embed", {"inputs": [101, 2_000_000]}, 422)


def test_a_server_that_refuses(strict: Server) -> None:
    refuse(strict, "/embed", {"inputs": ""}, 400, "Empty")
    refuse(strict, "/embed", {"inputs": [101, 102]}, 422)
    refuse(strict, "/embed", {"inputs": LONG}, 413)
    assert embed(strict, LONG, truncate=True).shape == (1, DIMENSIONS)
    assert refuse(strict, "/embed", {"inputs": ["a"] * 5}, 413) == "batch size 5 > maximum allowed batch size 4"
    refuse(strict, "/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"] * 4}}, 413)
    refuse(strict, "/tokenize", {"inputs": ["a"] * 5}, 413)
    refuse(strict, "/decode", {"ids": [[101]] * 5}, 413)
    assert strict.http.get("/info").json()["auto_truncate"] is False


def test_embed_all_gives_a_vector_a_token_whose_mean_is_the_texts(server: Server, golden: Golden) -> None:
    chosen = [0, 3, 5, 7]
    reply = server.post("/embed_all", {"inputs": [golden.texts[i] for i in chosen]})
    assert reply.status_code == 200, reply.text
    states = [np.array(one, dtype=np.float32) for one in reply.json()]
    assert [one.shape for one in states] == [(golden.tokens[i], DIMENSIONS) for i in chosen]
    means = np.stack([one.mean(axis=0) for one in states])
    assert cosines(means, golden.vectors[chosen]).min() >= 0.99999


def test_embed_all_cuts_or_refuses_what_is_too_long(server: Server) -> None:
    long = "word " * 300
    refuse(server, "/embed_all", {"inputs": long}, 413, "Validation")
    reply = server.post("/embed_all", {"inputs": long, "truncate": True})
    assert len(reply.json()[0]) == 256
    assert reply.headers["x-truncated-inputs"] == "1"


# --- /similarity ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/similarity", "/"])
def test_similarity(server: Server, golden: Golden, path: str) -> None:
    source, *others = golden.texts
    reply = server.post(path, {"inputs": {"source_sentence": source, "sentences": others}})
    assert reply.status_code == 200
    expected = cosines(golden.vectors[1:], golden.vectors[:1])
    assert np.abs(np.array(reply.json()) - expected).max() <= 1e-4


def test_similarity_with_parameters(prompted: Server) -> None:
    sentences = {"source_sentence": "cats", "sentences": ["cats", "rockets"]}
    plain = prompted.post("/similarity", {"inputs": sentences, "parameters": None}).json()
    named = prompted.post("/similarity", {"inputs": sentences, "parameters": {"prompt_name": "query"}}).json()
    assert plain[0] == pytest.approx(1, abs=1e-5)
    assert abs(plain[1] - named[1]) > 1e-4
    too_long = {"inputs": {"source_sentence": LONG, "sentences": ["a"]}, "parameters": {"truncate": False}}
    refuse(prompted, "/similarity", too_long, 413)


@pytest.mark.parametrize("path", ["/similarity", "/"])
def test_wrong_similarity(server: Server, path: str) -> None:
    refuse(server, path, {"inputs": {"source_sentence": "a", "sentences": []}}, 400, "Empty")
    for inputs in ({"source_sentence": "a"}, {"sentences": ["a"]}, {"source_sentence": ["a"], "sentences": ["a"]}):
        refuse(server, path, {"inputs": inputs}, 422)
    wrong = {"inputs": {"source_sentence": "a", "sentences": ["b"]}, "parameters": {"prompt_name": "nope"}}
    refuse(server, path, wrong, 422)


# --- /tokenize and /decode ------------------------------------------------------------------------------------


def test_tokenize(server: Server) -> None:
    (tokens,) = server.post("/tokenize", {"inputs": "Hello, World"}).json()
    assert tokens == [
        {"id": 101, "text": "[CLS]", "special": True, "start": None, "stop": None},
        {"id": 7592, "text": "Hello", "special": False, "start": 0, "stop": 5},
        {"id": 1010, "text": ",", "special": False, "start": 5, "stop": 6},
        {"id": 2088, "text": "World", "special": False, "start": 7, "stop": 12},
        {"id": 102, "text": "[SEP]", "special": True, "start": None, "stop": None},
    ]


def test_offsets_are_bytes(server: Server) -> None:
    text = "日本 😀 café x"
    (tokens,) = server.post("/tokenize", {"inputs": [text], "add_special_tokens": False}).json()
    assert not any(token["special"] for token in tokens)
    for token in tokens:
        assert text.encode()[token["start"] : token["stop"]].decode() == token["text"]
    assert tokens[-1]["stop"] == len(text.encode())


def test_offsets_far_into_a_text(server: Server) -> None:
    text = "日本 word " * 8_000
    (tokens,) = server.post("/tokenize", {"inputs": text, "add_special_tokens": False}).json()
    assert len(tokens) == 24_000
    encoded = text.encode()
    assert all(encoded[token["start"] : token["stop"]].decode() == token["text"] for token in tokens)
    assert {token["text"] for token in tokens} == {"日", "本", "word"}


def test_tokenize_agrees_with_what_is_counted(server: Server, golden: Golden) -> None:
    found = server.post("/tokenize", {"inputs": golden.texts, "add_special_tokens": True}).json()
    assert [len(tokens) for tokens in found] == golden.tokens.tolist()


def test_tokenize_with_a_prompt(prompted: Server) -> None:
    plain, named = (
        prompted.post("/tokenize", {"inputs": "cats", **fields}).json()[0] for fields in ({}, {"prompt_name": "query"})
    )
    assert [token["text"] for token in named] == ["[CLS]", "query", ":", "cats", "[SEP]"]
    assert [token["text"] for token in plain] == ["[CLS]", "cats", "[SEP]"]
    refuse(prompted, "/tokenize", {"inputs": "a", "prompt_name": "nope"}, 422)


def test_decode(server: Server) -> None:
    ids = [101, 7592, 1010, 2088, 102]
    assert server.post("/decode", {"ids": ids}).json() == ["hello, world"]
    assert server.post("/decode", {"ids": [ids, [2088]]}).json() == ["hello, world", "world"]
    kept = server.post("/decode", {"ids": ids, "skip_special_tokens": False}).json()
    assert kept == ["[CLS] hello, world [SEP]"]
    assert server.post("/decode", {"ids": [[]]}).json() == [""]


def test_nothing_to_tokenize_or_decode(server: Server) -> None:
    refuse(server, "/tokenize", {"inputs": []}, 400, "Empty")
    refuse(server, "/decode", {"ids": []}, 400, "Empty")
    refuse(server, "/decode", {"ids": [30522]}, 422)


def test_more_tokens_than_a_request_may_hold(start_server: StartServer) -> None:
    small = start_server("--max-request-tokens", "100")
    for path, body in (
        ("/embed", {"inputs": LONG}),
        ("/embed", {"inputs": [101] * 101}),
        ("/tokenize", {"inputs": LONG}),
        ("/decode", {"ids": [101] * 101}),
    ):
        refuse(small, path, body, 413)
    assert len(small.post("/tokenize", {"inputs": "a " * 98}).json()[0]) == 100


# --- the server -----------------------------------------------------------------------------------------------


def test_info(server: Server) -> None:
    found = server.http.get("/info").json()
    assert found.pop("max_concurrent_requests") >= 1
    assert found == {
        "model_id": f"sentence-transformers/{MODEL}",
        "model_sha": None,
        "model_dtype": "float32",
        "served_model_name": MODEL,
        "model_type": {"embedding": {"pooling": "mean"}},
        "similarity_fn_name": None,
        "max_input_length": 256,
        "max_batch_tokens": 512,
        "max_batch_requests": None,
        "max_client_batch_size": 2048,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": service.__version__,
        "sha": None,
        "docker_label": None,
    }


def test_health(server: Server) -> None:
    reply = server.http.get("/health")
    assert (reply.status_code, reply.json()) == (200, {})


def test_the_root_answers_probes_and_clients(server: Server) -> None:
    reply = server.http.get("/")
    assert (reply.status_code, reply.json()) == (200, {"status": "alive"})
    wrong = server.http.put("/", content=b"{}")
    assert wrong.status_code == 405
    assert set(wrong.headers["allow"].split(", ")) == {"GET", "HEAD", "POST"}
    assert wrong.json()["error_type"] == "Validation"


def test_routes_of_other_models(server: Server) -> None:
    refuse(server, "/vertex", {"instances": []}, 404)
    for path, body in (("/predict", {"inputs": "a"}), ("/rerank", {"query": "a", "texts": ["b"]})):
        assert "gives no" in refuse(server, path, body, 424, "Backend")


def test_keys(start_server: StartServer) -> None:
    guarded = start_server(env={"EMBEDSERVE_API_KEYS": KEY})
    for path in ("/embed", "/", "/similarity", "/tokenize", "/decode", "/embed_all"):
        refuse(guarded, path, {"inputs": "a"}, 401)
    assert guarded.http.get("/info").status_code == 401
    assert guarded.http.get("/health").status_code == 200
    reply = guarded.post("/embed", {"inputs": "a"}, authorization=f"Bearer {KEY}")
    assert vectors_of(reply).shape == (1, DIMENSIONS)


def test_requests_are_counted(server: Server) -> None:
    before = server.metric("embedserve_inputs_total", route="/embed")
    embed(server, ["a", "b", "c"])
    assert server.metric("embedserve_inputs_total", route="/embed") == before + 3
