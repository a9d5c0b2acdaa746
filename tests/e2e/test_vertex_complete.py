"""The rest of Vertex AI: its other paths and methods, versions in names, descriptions, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.api.google import TASKS
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

LONG = "word " * 1000
PROJECT = "/projects/p/locations/l"
PREDICTING = [
    f"/{version}{resource}:{method}"
    for version in ("v1", "v1beta1")
    for resource in (
        f"/publishers/google/models/{MODEL}",
        f"{PROJECT}/publishers/google/models/{MODEL}",
        f"{PROJECT}/endpoints/42",
    )
    for method in ("predict", "rawPredict")
]
EMBEDDING = [
    f"/{version}{project}/publishers/google/models/{MODEL}"
    for version in ("v1", "v1beta1")
    for project in ("", PROJECT)
]
NAMED = f"/v1{PROJECT}/publishers/google/models/{{}}:predict"
CONTENT = {"content": {"parts": [{"text": "cats"}], "role": "user"}}


@pytest.fixture(scope="module")
def aliased(launch: StartServer) -> Server:
    """Under Google's names, one of which carries a version."""
    return launch("--model-aliases", "text-embedding-005,textembedding-gecko@003")


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have prompts and a shorter dimension."""
    prompts = {"query": "query: ", "document": "title: {title} | text: "}
    return launch(model=make_bundle(prompts=prompts, matryoshka_dimensions=[64]))


def embedded(server: Server, body: Any, method: str = "embedContent", model: str = EMBEDDING[0]) -> Any:
    reply = server.post(f"{model}:{method}", body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def values(*replies: Any) -> Any:
    """(replies, dimensions)."""
    return np.asarray([reply["embedding"]["values"] for reply in replies], dtype=np.float32)


def refuse(server: Server, path: str, body: Any, status: int = 400) -> str:
    names = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND"}
    message: str = assert_google_error(server.post(path, body), status, names[status])["message"]
    return message


@pytest.mark.parametrize("path", PREDICTING)
def test_predicting_paths(server: Server, golden: Golden, path: str) -> None:
    body = server.predict(*golden.texts[:3], path=f"{path}?%24alt=json%3Benum-encoding%3Dint")
    assert cosines(vertex_vectors(body), golden.vectors[:3]).min() >= 0.99999


@pytest.mark.parametrize(
    "name",
    [
        "text-embedding-005",
        "text-embedding-005@001",
        "text-embedding-005%40001",
        "textembedding-gecko%40003",
        "textembedding-gecko@003",
        f"{MODEL}@latest",
        f"sentence-transformers%2F{MODEL}%401",
    ],
)
def test_names_with_versions(aliased: Server, golden: Golden, name: str) -> None:
    body = aliased.predict(golden.texts[0], path=NAMED.format(name))
    assert cosines(vertex_vectors(body), golden.vectors[:1]).min() >= 0.99999


@pytest.mark.parametrize("name", ["textembedding-gecko", "textembedding-gecko@001", "@001", "@", "x@", f"x@{MODEL}"])
def test_names_that_are_not_served(aliased: Server, name: str) -> None:
    message = refuse(aliased, NAMED.format(name), {"instances": [{"content": "a"}]}, 404)
    assert f"Publisher Model `projects/p/locations/l/publishers/google/models/{name}` was not found" in message


def test_name_of_an_unknown_model_without_a_project(server: Server) -> None:
    path = "/v1beta1/publishers/google/models/text-embedding-999:predict"
    message = refuse(server, path, {"instances": [{"content": "a"}]}, 404)
    assert "`publishers/google/models/text-embedding-999`" in message


def test_prompts_are_answered_by_bare_arrays(server: Server, golden: Golden) -> None:
    body = {"instances": [{"prompt": golden.texts[0]}, {"prompt": golden.texts[1]}]}
    reply = server.post(VERTEX_ENDPOINT, body).json()
    assert set(reply) == {"predictions", "metadata"}
    assert cosines(np.asarray(reply["predictions"], dtype=np.float32), golden.vectors[:2]).min() >= 0.99999


def test_each_instance_has_its_own_form(server: Server) -> None:
    body = {"instances": [{"content": "a"}, {"prompt": "a"}, {"content": "a", "prompt": "b"}]}
    first, second, third = server.post(VERTEX_ENDPOINT, body).json()["predictions"]
    assert first["embeddings"]["values"] == second == third["embeddings"]["values"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"outputDimensionality": 64, "autoTruncate": True},
        {"output_dimensionality": 64.0, "auto_truncate": True},
        {"outputDimensionality": 64.0, "autoTruncate": True, "new": 1},
    ],
)
def test_both_spellings_of_parameters(prompted: Server, parameters: dict[str, Any]) -> None:
    body = prompted.post(VERTEX_MODEL, {"instances": [{"content": LONG}], "parameters": parameters}).json()
    assert vertex_vectors(body).shape == (1, 64)
    assert body["predictions"][0]["embeddings"]["statistics"]["truncated"] is True


@pytest.mark.parametrize(
    "instance",
    [
        {"image": {"bytesBase64Encoded": "AAAA"}},
        {"video": {"gcsUri": "gs://bucket/video.mp4"}},
        {"content": "a", "image": {"gcsUri": "gs://bucket/image.png", "mimeType": "image/png"}},
    ],
)
def test_images_and_videos_are_refused_in_clear_words(server: Server, instance: dict[str, Any]) -> None:
    message = refuse(server, VERTEX_MODEL, {"instances": [{"content": "a"}, instance]})
    assert message == "instances.1: this model embeds texts, not images or videos."


@pytest.mark.parametrize(
    "instance",
    [{"text": "a"}, {"prompt": None}, {"prompt": 3}, {"content": {"text": "a"}}, {"task_type": "CLUSTERING"}, 3],
)
def test_instances_without_a_text(server: Server, instance: Any) -> None:
    assert "instances.0" in refuse(server, VERTEX_MODEL, {"instances": [instance]})


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("name", ["text-embedding-005", "text-embedding-005%40001"])
def test_description_of_a_publisher_model(aliased: Server, version: str, name: str) -> None:
    reply = aliased.http.get(f"/{version}/publishers/google/models/{name}?%24alt=json%3Benum-encoding%3Dint")
    assert reply.status_code == 200
    plain = f"publishers/google/models/{name.replace('%40', '@')}"
    schema = "gs://google-cloud-aiplatform/schema/predict/instance/text_embedding_1.0.0.yaml"
    assert reply.json() == {
        "name": plain,
        "publisherModelTemplate": f"projects/{{user-project}}/locations/{{location}}/{plain}",
        "predictSchemata": {"instanceSchemaUri": schema},
    }


def test_description_of_an_unknown_publisher_model(server: Server) -> None:
    error = assert_google_error(server.http.get("/v1/publishers/google/models/text-bison"), 404, "NOT_FOUND")
    assert "`publishers/google/models/text-bison`" in error["message"]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("endpoint", ["1234567890", MODEL])
def test_description_of_an_endpoint(server: Server, version: str, endpoint: str) -> None:
    reply = server.http.get(f"/{version}{PROJECT}/endpoints/{endpoint}")
    assert reply.json() == {
        "name": f"projects/p/locations/l/endpoints/{endpoint}",
        "displayName": MODEL,
        "deployedModels": [{"id": "1", "displayName": MODEL}],
    }


@pytest.mark.parametrize("path", [f"/v1{PROJECT}/endpoints/1", "/v1/publishers/google/models/m"])
def test_descriptions_can_only_be_read(server: Server, path: str) -> None:
    reply = server.post(path, {})
    assert_google_error(reply, 405, "UNIMPLEMENTED")
    assert reply.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("model", EMBEDDING)
def test_embed_content(server: Server, golden: Golden, model: str) -> None:
    body = embedded(server, {"content": {"parts": [{"text": golden.texts[0]}]}}, model=model)
    assert set(body) == {"embedding", "usageMetadata", "truncated"}
    assert set(body["embedding"]) == {"values"}
    assert body["usageMetadata"] == {"promptTokenCount": golden.tokens[0]}
    assert body["truncated"] is False
    assert cosines(values(body), golden.vectors[:1]).min() >= 0.99999


@pytest.mark.parametrize(
    "config",
    [
        {"embedContentConfig": {"taskType": "RETRIEVAL_DOCUMENT", "title": "Pets", "outputDimensionality": 64.0}},
        {"embed_content_config": {"task_type": 3, "title": "Pets", "output_dimensionality": 64}},
        {"taskType": "RETRIEVAL_DOCUMENT", "title": "Pets", "outputDimensionality": 64},
        {"taskType": 3, "title": "no", "embedContentConfig": {"title": "Pets", "outputDimensionality": 64}},
        {
            "embedContentConfig": {"taskType": "RETRIEVAL_DOCUMENT", "title": "Pets", "documentOcr": True},
            "outputDimensionality": 64,
        },
    ],
)
def test_embed_content_config(prompted: Server, config: dict[str, Any]) -> None:
    found = values(embedded(prompted, CONTENT | config))
    assert found.shape == (1, 64)
    assert cosines(found, prompted.embed("title: Pets | text: cats")[:, :64]).min() > 0.999999


@pytest.mark.parametrize("number", range(2, 10))
def test_numbers_of_task_types(prompted: Server, number: int) -> None:
    by_number, by_name = (
        embedded(prompted, CONTENT | {"embedContentConfig": {"taskType": task}}) for task in (number, TASKS[number - 2])
    )
    assert by_number == by_name


@pytest.mark.parametrize("task", [0, "", "UNSPECIFIED", "TASK_TYPE_UNSPECIFIED", None])
def test_no_task_type(server: Server, task: Any) -> None:
    found = values(embedded(server, CONTENT | {"taskType": task, "embedContentConfig": {"taskType": task}}))
    assert cosines(found, server.embed("cats")).min() > 0.999999


def test_parts_are_lines(server: Server) -> None:
    found = values(embedded(server, {"content": {"parts": [{"text": "cats"}, {"text": "dogs"}]}}))
    assert cosines(found, server.embed("cats\ndogs")).min() > 0.999999


def test_embed_content_truncates(server: Server) -> None:
    long = {"content": {"parts": [{"text": LONG}]}}
    cut = embedded(server, long | {"embedContentConfig": {"autoTruncate": True}})
    assert cut["truncated"] is True
    assert cut["usageMetadata"] == {"promptTokenCount": 1002}
    assert cosines(values(cut), server.embed("word " * 254)).min() > 0.999999
    assert embedded(server, long)["truncated"] is False
    message = refuse(server, f"{EMBEDDING[0]}:embedContent", long | {"autoTruncate": False})
    assert "the input token count is 1002 but the model supports up to 256" in message


def test_batch_embed_contents(server: Server, golden: Golden) -> None:
    requests = [{"content": {"parts": [{"text": text}]}} for text in golden.texts]
    body = embedded(server, {"requests": requests}, "batchEmbedContents")
    assert set(body) == {"embeddings", "usageMetadata"}
    assert [one["statistics"]["token_count"] for one in body["embeddings"]] == golden.tokens.tolist()
    assert body["usageMetadata"] == {"promptTokenCount": golden.tokens.sum()}
    found = np.asarray([one["values"] for one in body["embeddings"]], dtype=np.float32)
    assert cosines(found, golden.vectors).min() >= 0.99999


def test_requests_of_a_batch_may_differ(prompted: Server) -> None:
    long = {"content": {"parts": [{"text": LONG}]}}
    requests = [
        CONTENT,
        long | {"embedContentConfig": {"autoTruncate": True}},
        CONTENT | {"embedContentConfig": {"outputDimensionality": 64, "taskType": "RETRIEVAL_QUERY"}},
        long,
    ]
    whole, cut, short, chunked = embedded(prompted, {"requests": requests}, "batchEmbedContents")["embeddings"]
    assert [len(one["values"]) for one in (whole, cut, short, chunked)] == [DIMENSIONS, DIMENSIONS, 64, DIMENSIONS]
    assert [one["statistics"]["truncated"] for one in (whole, cut, short, chunked)] == [False, True, False, False]
    query = prompted.embed("query: cats")[:, :64]
    assert cosines(np.asarray([short["values"]], dtype=np.float32), query).min() > 0.999999


def test_most_requests_of_a_batch(server: Server) -> None:
    path = f"{EMBEDDING[0]}:batchEmbedContents"
    assert server.post(path, {"requests": [CONTENT] * 250}).status_code == 200
    assert refuse(server, path, {"requests": [CONTENT] * 251}).endswith("Actual: 251")


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        b"",
        b"{",
        {"content": None},
        {"content": "text"},
        {"content": {}},
        {"content": {"parts": []}},
        {"content": {"parts": [{}]}},
        {"content": {"parts": [{"text": None}]}},
        {"content": {"parts": [{"text": 3}]}},
        {"content": {"parts": ["text"]}},
        {"content": {"parts": [{"text": "a"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}},
        {"content": {"parts": [{"fileData": {"fileUri": "gs://bucket/a.pdf"}}]}},
        CONTENT | {"taskType": "NO_SUCH_TASK"},
        CONTENT | {"taskType": "retrieval_query"},
        CONTENT | {"taskType": 1},
        CONTENT | {"taskType": 10},
        CONTENT | {"taskType": -1},
        CONTENT | {"taskType": []},
        CONTENT | {"outputDimensionality": 0},
        CONTENT | {"outputDimensionality": 100},
        CONTENT | {"outputDimensionality": 1.5},
        CONTENT | {"embedContentConfig": {"outputDimensionality": 10**30}},
        CONTENT | {"embedContentConfig": []},
        CONTENT | {"title": 3},
        CONTENT | {"autoTruncate": "perhaps"},
    ],
    ids=lambda body: repr(body)[:60],
)
def test_bad_contents(server: Server, body: Any) -> None:
    refuse(server, f"{EMBEDDING[0]}:embedContent", body)
    if isinstance(body, dict):
        refuse(server, f"{EMBEDDING[0]}:batchEmbedContents", {"requests": [CONTENT, body]})
    server.assert_well()


@pytest.mark.parametrize("body", [{}, {"requests": []}, {"requests": None}, {"requests": CONTENT}, {"requests": ["a"]}])
def test_bad_batches(server: Server, body: Any) -> None:
    refuse(server, f"{EMBEDDING[0]}:batchEmbedContents", body)


def test_unknown_task_types_are_named_with_the_known_ones(server: Server) -> None:
    message = refuse(server, VERTEX_MODEL, {"instances": [{"content": "a", "task_type": "SINGING"}]})
    assert "SINGING" in message
    assert all(task in message for task in TASKS)
