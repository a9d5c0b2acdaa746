"""Each mistake gets its status and its dialect's body, and the next request is served as if nothing had been."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Golden, StartServer
from tests.e2e.process import (
    DIMENSIONS,
    MODEL,
    VERTEX_ENDPOINT,
    VERTEX_MODEL,
    Raw,
    Server,
    assert_google_error,
    assert_openai_error,
    openai_vectors,
)

INVALID = "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def small(launch: StartServer) -> Server:
    """Reads bodies of up to a megabyte."""
    return launch("--max-body-bytes", str(LIMIT), "--max-inputs", "10", "--max-instances", "5")


def refuse(server: Server, body: Any, status: int = 400, kind: str = "invalid_request_error") -> dict[str, Any]:
    error = assert_openai_error(server.post("/v1/embeddings", body), status, kind)
    server.assert_well()
    return error


NOT_JSON = {
    "empty": b"",
    "spaces": b"  \n",
    "open brace": b"{",
    "text": b"hello",
    "trailing comma": b'{"input": "a",}',
    "two documents": b'{"input": "a"}{"input": "b"}',
    "single quotes": b"{'input': 'a'}",
    "NUL in the structure": b'{"input"\x00: "a"}',
    "raw control character": b'{"input": "a\x01b"}',
    "invalid UTF-8": b'{"input": "\xff\xfe"}',
    "cut UTF-8": b'{"input": "\xe6\x97"}',
    "UTF-8 surrogate": b'{"input": "\xed\xa0\x80"}',
    "UTF-16": '{"input": "a"}'.encode("utf-16"),
    "lone high surrogate": b'{"input": "\\ud83d"}',
    "lone low surrogate": b'{"input": "\\ude00 a"}',
    "lone surrogate in a list": b'{"input": ["a", "\\ud800"]}',
    "bad escape": b'{"input": "\\x41"}',
    "NaN": b'{"input": "a", "dimensions": nan}',
    "deep arrays": b'{"input": ' + b"[" * 100_000,
    "deep closed arrays": b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep objects": b'{"a": ' * 100_000,
    "deep unknown field": b'{"input": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "gzip": gzip.compress(b'{"input": "a"}'),
    "form": b"input=a&model=b",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_not_json(server: Server, body: bytes) -> None:
    error = refuse(server, body)
    assert error["message"].startswith("We could not parse the JSON body of your request.")
    assert_google_error(server.post(VERTEX_MODEL, body), 400)


INVALID_INPUTS: dict[str, Any] = {
    "null": None,
    "number": 3,
    "float": 1.5,
    "boolean": True,
    "object": {"text": "a"},
    "no items": [],
    "empty array of ids": [[]],
    "one empty array of ids": [[1], []],
    "texts and ids": ["a", 1],
    "ids and texts": [1, "a"],
    "ids and arrays of ids": [1, [2]],
    "arrays of ids and ids": [[1], 2],
    "texts and arrays": ["a", [1]],
    "arrays and texts": [[1], "a"],
    "arrays of texts": [["a"]],
    "null items": [None],
    "text and null": ["a", None],
    "booleans": [True, False],
    "ids and booleans": [1, True],
    "floats": [1.0, 2.0],
    "float in an array": [[1, 2.5]],
    "objects": [{"word": "a"}],
    "three levels": [[[1]]],
    "negative id": [-1],
    "id above the vocabulary": [100_277],
    "id in the gap of the vocabulary": [100_256],
    "huge id": [2**63],
    "gigantic id": [10**30],
    "one bad id among good": [[9906], [9906, 10**6]],
    "2049 texts": ["a"] * 2049,
    "2049 arrays": [[1]] * 2049,
    "2049 nulls": [None] * 2049,
}


@pytest.mark.parametrize("value", INVALID_INPUTS.values(), ids=INVALID_INPUTS)
def test_invalid_input(server: Server, value: Any) -> None:
    error = refuse(server, {"model": MODEL, "input": value})
    assert error == {"message": INVALID, "type": "invalid_request_error", "param": None, "code": None} | (
        {"detail": error["detail"]} if "detail" in error else {}
    )


OTHERWISE_WRONG: dict[str, Any] = {
    "no input": {"model": MODEL},
    "empty object": {},
    "array": [],
    "text": "a",
    "null": None,
    "number": 1,
    "model is a number": {"input": "a", "model": 3},
    "model is a list": {"input": "a", "model": [MODEL]},
    "user is a number": {"input": "a", "user": 3},
    "encoding_format unknown": {"input": "a", "encoding_format": "int8"},
    "encoding_format empty": {"input": "a", "encoding_format": ""},
    "encoding_format in capitals": {"input": "a", "encoding_format": "BASE64"},
    "encoding_format is a list": {"input": "a", "encoding_format": ["float"]},
} | {f"dimensions {size!r}": {"input": "a", "dimensions": size} for size in (0, -1, 1.5, "256", True, 10**30, [384])}


@pytest.mark.parametrize("body", OTHERWISE_WRONG.values(), ids=OTHERWISE_WRONG)
def test_invalid_fields(server: Server, body: Any) -> None:
    refuse(server, body)


def test_number_of_five_thousand_digits(server: Server) -> None:
    refuse(server, b'{"input": [' + b"9" * 5000 + b"]}")
    refuse(server, b'{"input": "a", "dimensions": ' + b"9" * 5000 + b"}")


@pytest.mark.parametrize("name", ["no-such", "", "../etc/passwd", "a" * 10_000, "mödel\n", MODEL.upper()])
def test_unknown_model(server: Server, name: str) -> None:
    error = refuse(server, {"input": "a", "model": name}, 404)
    assert error["code"] == "model_not_found"
    shown = name if len(name) <= 200 else f"{name[:200]}…"
    assert error["message"] == f"The model `{shown}` does not exist or you do not have access to it."


ACCEPTED = {
    "empty text": "",
    "list with an empty text": [""],
    "NUL": "a\x00b",
    "only NUL": "\x00",
    "control characters": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "byte order mark": "\ufeffa",
    "noncharacters": "\ufffe\uffff\U0010ffff",
    "bidirectional controls": "\u202eabc\u202c\u2066",
    "paired surrogates": "😀",
    "spaces": " \t\r\n\u2003\u3000",
    "combining": "a" + "\u0301" * 500,
    "special tokens as text": "[CLS] [SEP] [MASK] [PAD] [UNK] <|endoftext|>",
    "a list of all": ["", "\x00", "[SEP]", "😀"],
}


@pytest.mark.parametrize("value", ACCEPTED.values(), ids=ACCEPTED)
def test_odd_but_right(server: Server, value: Any) -> None:
    for body in (json.dumps({"input": value}), json.dumps({"input": value}, ensure_ascii=False)):
        reply = server.post("/v1/embeddings", body.encode())
        assert reply.status_code == 200, reply.text
        vectors = openai_vectors(reply)
        assert vectors.shape == (1 if isinstance(value, str) else len(value), DIMENSIONS)
        assert np.isfinite(vectors).all()


def test_special_tokens_in_a_text_do_not_break_its_neighbours(server: Server, golden: Golden) -> None:
    vectors = server.embed([golden.texts[0], "[PAD] [PAD] [PAD]", "[MASK]", golden.texts[1]])
    assert np.abs(vectors[[0, 3]] - golden.vectors[:2]).max() <= 1e-4


@pytest.mark.parametrize(
    "fields",
    [
        {"model": None, "dimensions": None, "encoding_format": None, "user": None},
        {"unknown": {"a": [1, None]}, "input_type": "query"},
        {"user": ""},
        {"encoding_format": "float"},
    ],
    ids=repr,
)
def test_tolerated_fields(server: Server, fields: dict[str, Any]) -> None:
    assert server.post("/v1/embeddings", {"input": "a"} | fields).status_code == 200


def test_content_type_does_not_matter(server: Server) -> None:
    for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/json; charset=utf-8"}):
        reply = server.http.post("/v1/embeddings", content=b'{"input": "a"}', headers=headers)
        assert reply.status_code == 200


def test_declared_body_over_the_limit(small: Server) -> None:
    body = json.dumps({"input": "a", "padding": "x" * LIMIT}).encode()
    refuse(small, body, 413)
    assert_google_error(small.post(VERTEX_MODEL, body), 413)
    small.assert_well()


def test_chunked_body_over_the_limit(small: Server) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"input": "'
        for _ in range(20):
            yield b"x" * (LIMIT // 10)
        yield b'"}'

    assert_openai_error(small.http.post("/v1/embeddings", content=parts()), 413)
    small.assert_well()


def test_body_at_the_limit(small: Server) -> None:
    start, end = b'{"input": "a", "padding": "', b'"}'
    body = start + b"x" * (LIMIT - len(start) - len(end)) + end
    assert small.post("/v1/embeddings", body).status_code == 200
    assert small.post("/v1/embeddings", body + b" ").status_code == 413


def test_declared_size_is_enough_to_refuse(small: Server) -> None:
    """Nothing of the body is sent, so nothing of it can have been waited for."""
    for length in (str(LIMIT + 1), "9" * 15):
        with Raw(small.port) as raw:
            raw.send(f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
            status, headers, _ = raw.reply()
            assert status == 413
            assert headers["connection"] == "close"
            assert raw.closed_by_server()
    small.assert_well()


def test_limits_of_inputs_are_settings(small: Server) -> None:
    assert small.embed(["a"] * 10).shape[0] == 10
    refuse(small, {"input": ["a"] * 11})
    error = assert_google_error(small.post(VERTEX_MODEL, {"instances": [{"content": "a"}] * 6}), 400)
    assert error["message"] == "5 instance(s) is allowed per prediction. Actual: 6"


def test_a_text_of_a_million_tokens(server: Server, golden: Golden) -> None:
    """It is refused, and short requests that come meanwhile are served."""
    huge = json.dumps({"input": "cat " * 1_000_000}).encode()
    with ThreadPoolExecutor(2) as pool:
        refused = pool.submit(server.post, "/v1/embeddings", huge)
        beside = [server.embed(golden.texts[i % 8]) for i in range(24)]
        error = assert_openai_error(refused.result(), 400, "max_tokens_per_request")
    assert error["code"] == "max_tokens_per_request"
    assert error["message"] == "Requested 1000002 tokens, max 300000 tokens per request"
    assert np.abs(np.concatenate(beside) - golden.vectors[[i % 8 for i in range(24)]]).max() <= 1e-4


def test_too_many_tokens_in_all_inputs_together(server: Server) -> None:
    refuse(server, {"input": ["cat " * 400] * 1000}, 400, "max_tokens_per_request")
    refuse(server, {"input": [8415] * 300_001}, 400, "max_tokens_per_request")
    body = {"instances": [{"content": "cat " * 2_000}] * 200}
    assert_google_error(server.post(VERTEX_MODEL, body), 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"])
def test_wrong_method_on_embeddings(server: Server, method: str) -> None:
    reply = server.http.request(method, "/v1/embeddings")
    assert reply.headers["allow"] == "POST"
    if method == "HEAD":
        assert (reply.status_code, reply.content) == (405, b"")
    else:
        assert_openai_error(reply, 405)
    server.assert_well()


@pytest.mark.parametrize("path", ["/v1/models", f"/v1/models/{MODEL}"])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_wrong_method_on_models(server: Server, path: str, method: str) -> None:
    assert "GET" in assert_openai_error(server.http.request(method, path), 405)["message"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_wrong_method_on_probes(server: Server, path: str) -> None:
    reply = server.http.post(path)
    assert reply.status_code == 405
    assert set(reply.json()) == {"error"}


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/assets/nothing.js", "/docs/assets/../app.py"])
def test_even_the_documentation_never_answers_as_fastapi_does(server: Server, path: str) -> None:
    for method in ("POST", "DELETE") if "assets" not in path else ("GET", "POST"):
        reply = server.http.request(method, path)
        assert reply.status_code in (404, 405)
        assert_openai_error(reply, reply.status_code)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/v1", "/v1/", "/v1/foo", "/v1/embeddings/x", "/%00", "/%ff%fe", "/" + "a" * 8000, "//"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(server: Server, path: str, method: str) -> None:
    reply = server.http.request(method, server.url + path)
    error = assert_openai_error(reply, 404)
    assert error["message"].startswith(f"Invalid URL ({method} /")


@pytest.mark.parametrize("path", ["/v1/embeddings/", "/v1/models/"])
def test_a_slash_at_the_end_is_answered_in_the_dialect(server: Server, path: str) -> None:
    """No redirect: many clients turn a redirected POST into a GET, and behind a proxy its Location is wrong."""
    reply = server.http.request("POST" if "embeddings" in path else "GET", path, json={"input": "a"})
    assert reply.status_code in (200, 404)
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("path", ["/v1/models", "/livez", "/readyz", "/metrics"])
def test_head(server: Server, path: str) -> None:
    reply = server.http.head(path)
    assert (reply.status_code, reply.content) == (200, b"")
    assert int(reply.headers["content-length"]) > 0
    server.assert_well()


def test_duplicate_keys(server: Server) -> None:
    """The last one counts, as in every JSON reader of note."""
    reply = server.post("/v1/embeddings", b'{"input": ["a", "b"], "input": "c", "model": "no-such", "model": null}')
    assert openai_vectors(reply).shape == (1, DIMENSIONS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.fixed_dictionaries(
        {"input": json_values},
        optional={"dimensions": json_values, "encoding_format": json_values, "user": json_values, "x": json_values},
    )
)
def test_any_json_gets_200_or_a_400_in_openais_shape(server: Server, body: dict[str, Any]) -> None:
    reply = server.post("/v1/embeddings", body)
    if reply.status_code != 200:
        assert_openai_error(reply, 400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    instance=st.dictionaries(st.sampled_from(["content", "task_type", "taskType", "title"]), json_values, max_size=3),
    parameters=json_values
    | st.dictionaries(st.sampled_from(["autoTruncate", "outputDimensionality"]), json_values, max_size=2),
)
def test_any_json_gets_200_or_a_400_in_googles_shape(server: Server, instance: Any, parameters: Any) -> None:
    reply = server.post(VERTEX_MODEL, {"instances": [instance], "parameters": parameters})
    if reply.status_code != 200:
        assert_google_error(reply, 400)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=60))
def test_any_bytes_get_a_400(server: Server, body: bytes) -> None:
    assert_openai_error(server.post("/v1/embeddings", body), 400)
    assert_google_error(server.post(VERTEX_MODEL, body), 400)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=300))
def test_any_text_gets_a_unit_vector(server: Server, text: str) -> None:
    assert abs(float(np.linalg.norm(server.embed(text))) - 1) < 1e-5


def test_a_compressed_body_is_named_as_such(server: Server) -> None:
    reply = server.post("/v1/embeddings", gzip.compress(b'{"input": "a"}'), content_encoding="gzip")
    assert "compressed (gzip)" in assert_openai_error(reply, 400)["detail"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", b'{"input":[' + b"1," * 1_000_000 + b"1]}"),
        ("/v1/embeddings", b'{"input":[' + b"1," * 400_000 + b"1]}"),
        (VERTEX_ENDPOINT, b'{"instances":[' + b"{}," * 500_000 + b"{}]}"),
        ("/embed", b'{"inputs":[' + b"[1]," * 400_000 + b"[1]]}"),
    ],
    ids=["numbers", "token ids", "objects", "arrays"],
)
def test_more_values_than_any_request_may_hold(server: Server, path: str, body: bytes) -> None:
    reply = server.post(path, body)
    assert 400 <= reply.status_code < 500
    assert set(reply.json()) >= {"error"}
    server.assert_well()
