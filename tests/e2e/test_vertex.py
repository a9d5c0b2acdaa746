"""Google Vertex AI's :predict, as its SDKs and REST users send it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.prompts import TASK_PROMPTS
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import (
    DIMENSIONS,
    MODEL,
    VERTEX_ENDPOINT,
    VERTEX_MODEL,
    Server,
    assert_google_error,
    cosines,
    vertex_vectors,
)

LONG = "The quick brown fox jumps over the lazy dog. " * 200
PATHS = [
    f"/{version}/projects/my-project/locations/{location}/publishers/{publisher}/models/{MODEL}:predict"
    for version in ("v1", "v1beta1")
    for location, publisher in (("us-central1", "google"), ("global", "anyone"))
] + [
    f"/{version}/projects/123/locations/europe-west4/endpoints/{endpoint}:predict"
    for version in ("v1", "v1beta1")
    for endpoint in ("4242424242", MODEL)
]
PROMPTS = {"query": "query: ", "document": "title: {title} | text: ", "clustering": "cluster: "}


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have prompts and a shorter dimension."""
    return launch(model=make_bundle(prompts=PROMPTS, matryoshka_dimensions=[64]))


def refuse(server: Server, body: Any, path: str = VERTEX_MODEL, status: int = 400) -> dict[str, Any]:
    names = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}
    error = assert_google_error(server.post(path, body), status, names[status])
    server.assert_well()
    return error


@pytest.mark.parametrize("path", PATHS)
def test_paths(server: Server, golden: Golden, path: str) -> None:
    body = server.predict(golden.texts[0], path=path)
    assert set(body) == {"predictions", "metadata"}
    assert np.abs(vertex_vectors(body) - golden.vectors[:1]).max() <= 1e-4


@pytest.mark.parametrize("query", ["?%24alt=json%3Benum-encoding%3Dint", "?$alt=json;enum-encoding=int", "?key=", "?"])
def test_query_strings_of_googles_clients(server: Server, query: str) -> None:
    assert len(server.predict("a", path=VERTEX_MODEL + query)["predictions"]) == 1


def test_models_name_may_be_percent_encoded(server: Server) -> None:
    path = f"/v1/projects/p/locations/l/publishers/google/models/sentence-transformers%2F{MODEL}:predict"
    assert len(server.predict("a", path=path)["predictions"]) == 1


def test_shape_of_a_prediction(server: Server) -> None:
    (prediction,) = server.predict("What is life?")["predictions"]
    assert set(prediction) == {"embeddings"}
    assert set(prediction["embeddings"]) == {"values", "statistics"}
    assert prediction["embeddings"]["statistics"] == {"token_count": 6, "truncated": False}
    assert len(prediction["embeddings"]["values"]) == DIMENSIONS


def test_billable_characters_are_code_points_without_white_space(server: Server) -> None:
    body = server.predict("What is life?", " \t\n", "日本 語😀", "")
    assert body["metadata"] == {"billableCharacterCount": 11 + 0 + 4 + 0}


@pytest.mark.parametrize("size", [DIMENSIONS, float(DIMENSIONS)])
def test_whole_numbers_may_come_as_floats(server: Server, size: float) -> None:
    assert vertex_vectors(server.predict("a", outputDimensionality=size)).shape == (1, DIMENSIONS)


def test_shorter_vectors_of_a_model_trained_for_them(prompted: Server) -> None:
    whole = vertex_vectors(prompted.predict("a"))
    short = vertex_vectors(prompted.predict("a", outputDimensionality=64.0))
    assert short.shape == (1, 64)
    assert cosines(short, whole[:, :64]).min() > 0.999999
    assert abs(float(np.linalg.norm(short)) - 1) < 1e-5


@pytest.mark.parametrize("size", [0, -1, 1.5, 100, 385, "wide", 10**30, [64], {}, True])
def test_dimensions_that_the_model_lacks(server: Server, size: Any) -> None:
    refuse(server, {"instances": [{"content": "a"}], "parameters": {"outputDimensionality": size}})


def test_auto_truncate(server: Server) -> None:
    statistics = {}
    vectors = {}
    cases: dict[str, dict[str, Any]] = {"cut": {"autoTruncate": True}, "default": {}, "null": {"autoTruncate": None}}
    for name, parameters in cases.items():
        body = server.predict(LONG, **parameters)
        statistics[name] = body["predictions"][0]["embeddings"]["statistics"]
        vectors[name] = vertex_vectors(body)
    assert statistics["cut"]["truncated"] is True
    assert statistics["default"] == statistics["null"] == {"token_count": 2002, "truncated": False}
    assert cosines(vectors["default"], vectors["null"]).min() > 0.999999
    assert cosines(vectors["default"], vectors["cut"]).max() < 0.99999


def test_auto_truncate_reads_the_same_as_a_text_cut_before(server: Server) -> None:
    cut = vertex_vectors(server.predict("word " * 1000, autoTruncate=True))
    assert cosines(cut, server.embed("word " * 254)).min() > 0.999999


def test_auto_truncate_says_only_of_long_texts_that_they_were_cut(server: Server) -> None:
    body = server.predict("short", LONG, "short too", autoTruncate=True)
    assert [one["embeddings"]["statistics"]["truncated"] for one in body["predictions"]] == [False, True, False]


def test_without_auto_truncate_long_texts_are_refused(server: Server) -> None:
    body = {"instances": [{"content": "a"}, {"content": LONG}], "parameters": {"autoTruncate": False}}
    error = refuse(server, body)
    assert "2002" in error["message"]
    assert "256" in error["message"]
    assert vertex_vectors(server.predict("word " * 254, autoTruncate=False)).shape == (1, DIMENSIONS)


@pytest.mark.parametrize("task", [*TASK_PROMPTS, "TASK_TYPE_UNSPECIFIED", "", None])
@pytest.mark.parametrize("key", ["task_type", "taskType"])
def test_task_types(server: Server, task: str | None, key: str) -> None:
    reply = server.post(VERTEX_MODEL, {"instances": [{"content": "a", key: task}]})
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize("task", ["NO_SUCH_TASK", "retrieval_query", 3, ["RETRIEVAL_QUERY"]])
def test_unknown_task_type(server: Server, task: Any) -> None:
    refuse(server, {"instances": [{"content": "a", "task_type": task}]})


def test_task_types_choose_the_models_prompt(prompted: Server) -> None:
    instances = [
        {"content": "cats", "task_type": "RETRIEVAL_QUERY"},
        {"content": "cats", "task_type": "QUESTION_ANSWERING"},
        {"content": "cats", "task_type": "CLUSTERING"},
        {"content": "cats", "task_type": "RETRIEVAL_DOCUMENT"},
        {"content": "cats", "task_type": "RETRIEVAL_DOCUMENT", "title": "Pets"},
        {"content": "cats", "task_type": "SEMANTIC_SIMILARITY"},
    ]
    expected = [
        "query: cats",
        "query: cats",
        "cluster: cats",
        "title: none | text: cats",
        "title: Pets | text: cats",
        "cats",
    ]
    found = vertex_vectors(prompted.post(VERTEX_MODEL, {"instances": instances}).json())
    assert cosines(found, prompted.embed(expected)).min() > 0.999999


def test_title_without_a_prompt_is_a_line_above(server: Server) -> None:
    body = {"instances": [{"content": "cats", "task_type": "RETRIEVAL_DOCUMENT", "title": "Pets"}]}
    assert cosines(vertex_vectors(server.post(VERTEX_MODEL, body).json()), server.embed("Pets\ncats")).min() > 0.999999


def test_prompts_are_repeated_in_every_window_and_counted_once(prompted: Server) -> None:
    plain, queried = (
        prompted.post(VERTEX_MODEL, {"instances": [{"content": LONG} | task]}).json()
        for task in ({}, {"task_type": "RETRIEVAL_QUERY"})
    )
    counts = [one["predictions"][0]["embeddings"]["statistics"]["token_count"] for one in (plain, queried)]
    assert counts == [2002, 2004]
    assert cosines(vertex_vectors(plain), vertex_vectors(queried)).max() < 0.9999


def test_most_instances(server: Server) -> None:
    assert len(server.predict(*["a"] * 250)["predictions"]) == 250


def test_one_instance_more(server: Server) -> None:
    error = refuse(server, {"instances": [{"content": "a"}] * 251})
    assert error["message"] == "250 instance(s) is allowed per prediction. Actual: 251"


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        {"instances": []},
        {"instances": None},
        {"instances": {}},
        {"instances": "a"},
        {"instances": ["a"]},
        {"instances": [{}]},
        {"instances": [None]},
        {"instances": [{"content": None}]},
        {"instances": [{"content": 3}]},
        {"instances": [{"content": ["a"]}]},
        {"instances": [{"content": "a"}, {"contents": "a"}]},
        {"instances": [{"content": "a", "title": 3}]},
        {"instances": [{"content": "a"}], "parameters": []},
        {"instances": [{"content": "a"}], "parameters": {"autoTruncate": "perhaps"}},
        b"",
        b"{",
        b"\xff",
        b'{"instances": [{"content": "\\ud800"}]}',
        b'{"instances": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body)[:50],
)
def test_bad_bodies(server: Server, body: Any) -> None:
    refuse(server, body)


def test_unknown_fields_and_nulls_are_tolerated(server: Server) -> None:
    body: dict[str, Any] = {
        "instances": [{"content": "a", "mimeType": "text/plain", "title": None, "new": {}}],
        "parameters": None,
        "labels": {},
    }
    assert server.post(VERTEX_MODEL, body).status_code == 200


def test_unknown_model(server: Server) -> None:
    path = "/v1/projects/p/locations/l/publishers/google/models/text-embedding-999:predict"
    error = refuse(server, {"instances": [{"content": "a"}]}, path, 404)
    assert "text-embedding-999" in error["message"]
    assert "was not found" in error["message"]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/projects/p/locations/l/publishers/google/models/m:noSuchMethod",
        "/v1/projects/p/locations/l/nothing",
        "/v1beta1/publishers/google/nothing",
    ],
)
def test_unknown_paths_that_look_like_googles(server: Server, path: str) -> None:
    refuse(server, {}, path, 404)


@pytest.mark.parametrize("path", [VERTEX_MODEL, VERTEX_ENDPOINT])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_wrong_method(server: Server, path: str, method: str) -> None:
    reply = server.http.request(method, path)
    assert_google_error(reply, 405, "UNIMPLEMENTED")
    assert reply.headers["allow"] == "POST"


def test_empty_content_is_embedded(server: Server, golden: Golden) -> None:
    body = server.predict("")
    assert body["predictions"][0]["embeddings"]["statistics"]["token_count"] == 2
    expected = golden.vectors[[golden.texts.index("")]]
    assert np.abs(vertex_vectors(body) - expected).max() <= 1e-4
