"""KServe's V1 and V2 (Open Inference), as its documents and clients write them."""

from __future__ import annotations

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.oip_binary import CONTENT_TYPE, HEADER
from tests.conftest import Golden, MakeBundle, StartServer
from tests.e2e.process import (
    DIMENSIONS,
    HASTY,
    MODEL,
    TOO_MUCH,
    Server,
    Vectors,
    cosines,
    full_windows,
    wait_until,
)

V1 = f"/v1/models/{MODEL}:predict"
V2 = f"/v2/models/{MODEL}"
INFER = f"{V2}/infer"
LONG_NAME = f"sentence-transformers/{MODEL}"
LONG = "The quick brown fox jumps over the lazy dog. " * 200
KEY = "sk-e2e-0123456789abcdef"


@pytest.fixture(scope="module")
def prompted(launch: StartServer, make_bundle: MakeBundle) -> Server:
    """The same weights, said to have a prompt and a shorter dimension; it reads no long texts whole."""
    bundle = make_bundle(prompts={"query": "query: "}, matryoshka_dimensions=[64])
    return launch("--long-input", "truncate", "--max-inputs", "8", model=bundle)


def text_input(*texts: str, **changes: Any) -> dict[str, Any]:
    return {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": list(texts)} | changes


def request(*texts: str, **fields: Any) -> dict[str, Any]:
    return {"inputs": [text_input(*texts)], **fields}


def embedding(**parameters: Any) -> dict[str, Any]:
    return {"name": "embedding", "parameters": parameters}


def element(text: bytes) -> bytes:
    return len(text).to_bytes(4, "little") + text


def post_binary(server: Server, tensor: bytes, body: dict[str, Any], length: str | None = None) -> httpx.Response:
    head = json.dumps(body).encode()
    headers = {HEADER: str(len(head)) if length is None else length, "content-type": CONTENT_TYPE}
    return server.http.post(INFER, content=head + tensor, headers=headers)


def binary_request(tensor: bytes, shape: list[int], **fields: Any) -> dict[str, Any]:
    one = {"name": "text", "shape": shape, "datatype": "BYTES", "parameters": {"binary_data_size": len(tensor)}}
    return {"inputs": [one], **fields}


def vectors_of(reply: httpx.Response) -> Vectors:
    """Of either wire form, with the envelope checked."""
    assert reply.status_code == 200, reply.text
    header = reply.headers.get(HEADER)
    body = json.loads(reply.content[: int(header)] if header else reply.content)
    assert body["model_name"] == MODEL
    assert body["model_version"] == "1"
    (output,) = body["outputs"]
    assert (output["name"], output["datatype"]) == ("embedding", "FP32")
    if header is None:
        assert reply.headers["content-type"] == "application/json"
        assert set(output) == {"name", "datatype", "shape", "data"}
        flat = np.asarray(output["data"], dtype=np.float32)
    else:
        assert reply.headers["content-type"] == CONTENT_TYPE
        assert set(output) == {"name", "datatype", "shape", "parameters"}
        tensor = reply.content[int(header) :]
        assert output["parameters"] == {"binary_data_size": len(tensor)}
        flat = np.frombuffer(tensor, "<f4")
    return flat.reshape(output["shape"])


def v1_vectors(reply: httpx.Response) -> Vectors:
    assert reply.status_code == 200, reply.text
    assert set(reply.json()) == {"predictions"}
    return np.asarray(reply.json()["predictions"], dtype=np.float32)


def refused(reply: httpx.Response, status: int = 400) -> str:
    """KServe's error body; its sentence."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    body = reply.json()
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)
    assert body["error"]
    return str(body["error"])


# --- V1 -------------------------------------------------------------------------------------------------------


def test_v1_texts(server: Server, golden: Golden) -> None:
    vectors = v1_vectors(server.post(V1, {"instances": golden.texts}))
    assert cosines(vectors, golden.vectors).min() >= 0.99999


def test_v1_objects_with_the_names_that_clients_give_a_text(server: Server, golden: Golden) -> None:
    texts = golden.texts[:4]
    instances = [{"content": texts[0]}, {"text": texts[1], "id": 7}, {"prompt": texts[2]}, texts[3]]
    vectors = v1_vectors(server.post(V1, {"instances": instances, "signature_name": "serving_default"}))
    assert cosines(vectors, golden.vectors[:4]).min() >= 0.99999


@pytest.mark.parametrize("name", [LONG_NAME, LONG_NAME.replace("/", "%2F")])
def test_names_with_slashes(server: Server, golden: Golden, name: str) -> None:
    vectors = v1_vectors(server.post(f"/v1/models/{name}:predict", {"instances": golden.texts[:1]}))
    assert cosines(vectors, golden.vectors[:1]).min() >= 0.99999
    for path in (f"/v2/models/{name}/infer", f"/v2/models/{name}/versions/1/infer"):
        assert cosines(vectors_of(server.post(path, request(golden.texts[0]))), golden.vectors[:1]).min() >= 0.99999
    for rest in ("", "/versions/1", "/ready", "/versions/1/ready"):
        assert server.http.get(f"/v2/models/{name}{rest}").json()["name"] == MODEL
    assert server.http.get(f"/v1/models/{name}").json()["name"] == MODEL


def test_models_answer_in_both_tongues(server: Server) -> None:
    listed = server.http.get("/v1/models").json()
    assert set(listed) == {"object", "data", "models"}
    assert listed["models"] == [one["id"] for one in listed["data"]] == [MODEL]
    one = server.http.get(f"/v1/models/{MODEL}").json()
    assert one == {**listed["data"][0], "name": MODEL, "ready": True}
    assert server.http.get("/v2/models").json() == {"models": [MODEL]}


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "text",
        None,
        {"instances": []},
        {"instances": None},
        {"instances": "a"},
        {"instances": [None]},
        {"instances": [3]},
        {"instances": [["a"]]},
        {"instances": [{}]},
        {"instances": [{"contents": "a"}]},
        {"instances": [{"content": 3}]},
        {"instances": ["a", {"text": ["a"]}]},
        {"instances": ["a"], "parameters": 3},
        {"instances": ["a"], "parameters": {"dimensions": 0}},
        {"instances": ["a"], "parameters": {"dimensions": 100}},
        {"instances": ["a"], "parameters": {"dimensions": "wide"}},
        {"instances": ["a"], "parameters": {"prompt_name": "none such"}},
        b"",
        b"{",
        b"\xff",
        b'{"instances": ["\\ud800"]}',
        b'{"instances": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body)[:50],
)
def test_v1_bad_bodies(server: Server, body: Any) -> None:
    refused(server.post(V1, body))
    server.assert_well()


# --- V2 in JSON -----------------------------------------------------------------------------------------------


def test_v2_texts(server: Server, golden: Golden) -> None:
    vectors = vectors_of(server.post(INFER, request(*golden.texts)))
    assert cosines(vectors, golden.vectors).min() >= 0.99999


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([2], ["a", "b"]),
        ([2, 1], ["a", "b"]),
        ([2, 1], [["a"], ["b"]]),
        ([2], [["a", "b"]]),
    ],
)
def test_shapes_of_two_texts(server: Server, shape: list[int], data: Any) -> None:
    vectors = vectors_of(server.post(INFER, {"inputs": [text_input(shape=shape, data=data)]}))
    assert vectors.shape == (2, DIMENSIONS)
    assert cosines(vectors, server.embed(["a", "b"])).min() >= 0.99999


@pytest.mark.parametrize("data", [["a"], "a", [["a"]]])
@pytest.mark.parametrize("shape", [[], [1], [1, 1]])
def test_shapes_of_one_text(server: Server, shape: list[int], data: Any) -> None:
    vectors = vectors_of(server.post(INFER, {"inputs": [text_input(shape=shape, data=data)]}))
    assert cosines(vectors, server.embed("a")).min() >= 0.99999


def test_the_inputs_name_does_not_matter(server: Server) -> None:
    assert vectors_of(server.post(INFER, {"inputs": [text_input("a", name="input-0")]})).shape == (1, DIMENSIONS)


@pytest.mark.parametrize("given", [{}, {"id": None}, {"id": ""}, {"id": "42 – ü"}])
def test_id_is_echoed(server: Server, given: dict[str, Any]) -> None:
    body = server.post(INFER, request("a", **given)).json()
    assert body.get("id") == given.get("id")
    assert ("id" in body) == (given.get("id") is not None)


@pytest.mark.parametrize(
    "fields",
    [
        {"outputs": None},
        {"outputs": []},
        {"outputs": [{"name": "embedding"}]},
        {"outputs": [embedding(binary_data=False)]},
        {"parameters": None},
        {"parameters": {"sequence_id": 3, "priority": 1, "timeout": 5, "binary_data_output": False, "new": {}}},
        {"novelty": [1]},
    ],
)
def test_what_is_optional_or_unknown(server: Server, fields: dict[str, Any]) -> None:
    assert vectors_of(server.post(INFER, request("a", **fields))).shape == (1, DIMENSIONS)


def test_parameters_of_this_server(prompted: Server) -> None:
    parameters = {"dimensions": 64, "prompt_name": "query"}
    expected = prompted.embed("query: cats", dimensions=64)
    v2 = vectors_of(prompted.post(INFER, request("cats", parameters=parameters)))
    v1 = v1_vectors(prompted.post(V1, {"instances": ["cats"], "parameters": parameters}))
    assert v1.shape == v2.shape == (1, 64)
    assert cosines(v2, expected).min() > 0.999999
    assert cosines(v1, expected).min() > 0.999999


@pytest.mark.parametrize("binary", [True, False])
def test_truncation_is_reported(prompted: Server, binary: bool) -> None:
    replies = [
        prompted.post(V1, {"instances": [LONG, "short"]}),
        prompted.post(INFER, request(LONG, "short", parameters={"binary_data_output": binary})),
    ]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert [reply.headers["x-truncated-inputs"] for reply in replies] == ["1", "1"]
    assert "x-truncated-inputs" not in prompted.post(V1, {"instances": ["short"]}).headers


def test_limits(prompted: Server) -> None:
    over = ["a"] * 9
    refused(prompted.post(V1, {"instances": over}))
    refused(prompted.post(INFER, request(*over)))
    refused(post_binary(prompted, element(b"a") * 9, binary_request(element(b"a") * 9, [9])))
    refused(post_binary(prompted, b"", binary_request(b"", [10**15])))
    assert len(vectors_of(prompted.post(INFER, request(*over[:8])))) == 8


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        None,
        {"inputs": None},
        {"inputs": []},
        {"inputs": {}},
        {"inputs": [None]},
        {"inputs": [{}]},
        {"inputs": [text_input("a"), text_input("b", name="more")]},
        {"inputs": [text_input("a", name=None)]},
        {"inputs": [text_input("a", shape=None)]},
        {"inputs": [text_input("a", shape="1")]},
        {"inputs": [text_input("a", shape=[-1])]},
        {"inputs": [text_input("a", shape=[2])]},
        {"inputs": [text_input("a", shape=[0])]},
        {"inputs": [text_input(shape=[0])]},
        {"inputs": [text_input(shape=[])]},
        {"inputs": [text_input("a", "b", shape=[])]},
        {"inputs": [text_input("a", "b", shape=[1, 2])]},
        {"inputs": [text_input("a", shape=[1, 1, 1])]},
        {"inputs": [text_input("a", shape=[1.5])]},
        {"inputs": [text_input("a", shape=[10**30])]},
        {"inputs": [text_input("a", datatype=None)]},
        {"inputs": [text_input("a", datatype="FP32")]},
        {"inputs": [text_input("a", datatype="INT64", data=[1])]},
        {"inputs": [text_input("a", datatype="bytes")]},
        {"inputs": [text_input("a", data=None)]},
        {"inputs": [text_input("a", data=[3])]},
        {"inputs": [text_input("a", data=[None])]},
        {"inputs": [text_input("a", data={"a": "b"})]},
        {"inputs": [text_input("a", data=[[["a"]]])]},
        {"inputs": [text_input("a", data=[True])]},
        {"inputs": [text_input("a", parameters=3)]},
        {"inputs": [text_input("a", parameters={"binary_data_size": 5})]},
        {"inputs": [text_input("a", parameters={"binary_data_size": 0})]},
        {"inputs": [text_input("a", parameters={"binary_data_size": -1})]},
        {
            "inputs": [
                text_input("a", data=None, parameters={"shared_memory_region": "r", "shared_memory_byte_size": 9})
            ]
        },
        request("a", id=42),
        request("a", outputs=3),
        request("a", outputs=[{}]),
        request("a", outputs=[{"name": "logits"}]),
        request("a", outputs=[{"name": "embedding"}, {"name": "embedding"}]),
        request("a", outputs=[embedding(binary_data="perhaps")]),
        request("a", outputs=[embedding(classification=3)]),
        request("a", outputs=[embedding(shared_memory_region="r")]),
        request("a", parameters=[]),
        request("a", parameters={"binary_data_output": 7}),
        request("a", parameters={"dimensions": 100}),
        request("a", parameters={"dimensions": -1}),
        request("a", parameters={"prompt_name": "none such"}),
        b"",
        b"{",
        b"\xff",
        json.dumps(request("a")).encode() + b"\x01\0\0\0a",
        b'{"inputs": ' + b"[" * 100_000,
    ],
    ids=lambda body: repr(body)[:60],
)
def test_v2_bad_bodies(server: Server, body: Any) -> None:
    refused(server.post(INFER, body))
    server.assert_well()


# --- V2 in binary ---------------------------------------------------------------------------------------------

ASKS_FOR_BINARY: list[dict[str, Any]] = [
    {"parameters": {"binary_data_output": True}},
    {"outputs": [embedding(binary_data=True)]},
    {
        "outputs": [embedding(binary_data=True)],
        "parameters": {"binary_data_output": False},
    },
    {"outputs": [{"name": "embedding"}], "parameters": {"binary_data_output": True}},
]
ASKS_FOR_JSON: list[dict[str, Any]] = [
    {},
    {"outputs": [{"name": "embedding"}]},
    {
        "outputs": [embedding(binary_data=False)],
        "parameters": {"binary_data_output": True},
    },
]


@pytest.mark.parametrize("fields", ASKS_FOR_BINARY + ASKS_FOR_JSON)
@pytest.mark.parametrize("column", [True, False])
def test_binary_texts(server: Server, golden: Golden, fields: dict[str, Any], column: bool) -> None:
    tensor = b"".join(element(text.encode()) for text in golden.texts)
    shape = [len(golden.texts), 1] if column else [len(golden.texts)]
    reply = post_binary(server, tensor, binary_request(tensor, shape, id="7", **fields))
    assert cosines(vectors_of(reply), golden.vectors).min() >= 0.99999
    assert (HEADER in reply.headers) == (fields in ASKS_FOR_BINARY)


@pytest.mark.parametrize("fields", ASKS_FOR_BINARY)
def test_json_texts_and_binary_vectors(server: Server, golden: Golden, fields: dict[str, Any]) -> None:
    reply = server.post(INFER, request(*golden.texts, **fields))
    assert HEADER in reply.headers
    assert cosines(vectors_of(reply), golden.vectors).min() >= 0.99999


def test_both_forms_carry_the_same_numbers(server: Server) -> None:
    plain = vectors_of(server.post(INFER, request("cats")))
    binary = vectors_of(server.post(INFER, request("cats", parameters={"binary_data_output": True})))
    assert cosines(plain, binary).min() > 0.9999999
    assert np.abs(plain - binary).max() < 1e-6


def test_header_that_covers_the_whole_body(server: Server) -> None:
    assert vectors_of(post_binary(server, b"", request("a"))).shape == (1, DIMENSIONS)


A = element(b"a")


@pytest.mark.parametrize(
    ("tensor", "body"),
    [
        (b"", binary_request(A, [1])),
        (A[:-1], binary_request(A, [1])),
        (A + b"b", binary_request(A, [1])),
        (A, binary_request(A + b"b", [1])),
        (A, binary_request(b"", [1])),
        (A, request("a")),
        (A[:3], binary_request(A[:3], [1])),
        (A + A[:4], binary_request(A + A[:4], [2])),
        (A, binary_request(A, [2])),
        (A + A, binary_request(A + A, [1])),
        (A + A, binary_request(A + A, [])),
        (b"", binary_request(b"", [1])),
        (b"", binary_request(b"", [0])),
        (b"\xff\xff\xff\xffa", binary_request(b"\xff\xff\xff\xffa", [1])),
        (element(b"\xff\xfe"), binary_request(element(b"\xff\xfe"), [1])),
        (element(b"\xed\xa0\x80"), binary_request(element(b"\xed\xa0\x80"), [1])),
        (A, {"inputs": [text_input("a", parameters={"binary_data_size": len(A)})]}),
        (A, {"inputs": [text_input(shape=[1], data=None, parameters={"binary_data_size": -5})]}),
        (A, {"inputs": [text_input(shape=[1], data=None, parameters={"binary_data_size": "five"})]}),
        (A, {"inputs": [text_input(shape=[1], data=None, datatype="UINT8", parameters={"binary_data_size": len(A)})]}),
    ],
)
def test_bad_binary(server: Server, tensor: bytes, body: dict[str, Any]) -> None:
    refused(post_binary(server, tensor, body))
    server.assert_well()


@pytest.mark.parametrize("length", ["", "-1", "+5", "1.5", "0x10", "many", "1000000", "9" * 5000])
def test_bad_header(server: Server, length: str) -> None:
    assert "Inference-Header-Content-Length" in refused(post_binary(server, A, binary_request(A, [1]), length))


@pytest.mark.parametrize("length", ["0", "5"])
def test_header_that_cuts_the_json(server: Server, length: str) -> None:
    refused(post_binary(server, A, binary_request(A, [1]), length))


def test_errors_do_not_repeat_the_texts(server: Server) -> None:
    secret = "correct horse battery staple"
    tensor = element(secret.encode() + b"\xff")
    for reply in (
        post_binary(server, tensor, binary_request(tensor, [1])),
        server.post(INFER, request(secret, parameters={"dimensions": 100})),
        server.post(INFER, {"inputs": [text_input(secret, shape=[2])]}),
        server.post(INFER, {"inputs": [text_input(shape=[1], data=[{secret: 1}])]}),
        server.post(V1, {"instances": [[secret]]}),
    ):
        assert secret not in refused(reply)
    assert secret not in server.stderr()


# --- metadata, health, names ----------------------------------------------------------------------------------


def test_server_metadata(server: Server) -> None:
    body = server.http.get("/v2").json()
    assert set(body) == {"name", "version", "extensions"}
    assert body["name"] == "embedserve"
    assert body["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize("path", [V2, f"{V2}/versions/1"])
def test_model_metadata(server: Server, path: str) -> None:
    assert server.http.get(path).json() == {
        "name": MODEL,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "text", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "embedding", "datatype": "FP32", "shape": [-1, DIMENSIONS]}],
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", {"status": "alive"}),
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"ready": True}),
        (f"{V2}/ready", {"name": MODEL, "ready": True}),
        (f"{V2}/versions/1/ready", {"name": MODEL, "ready": True}),
    ],
)
def test_health(server: Server, path: str, body: dict[str, Any]) -> None:
    reply = server.http.get(path)
    assert (reply.status_code, reply.json()) == (200, body)
    assert server.http.head(path).status_code == 200


def test_probes_of_the_root_are_no_requests_of_those_who_post_there(start_server: StartServer) -> None:
    """By their route alone: what is refused before its model is known has none, as a probe has none."""
    server = start_server()
    before = server.metric("embedserve_requests_total", route="/livez")
    for method in ("GET", "HEAD"):
        assert server.http.request(method, "/").status_code == 200
    assert server.metric("embedserve_requests_total", route="/livez") == before + 2
    assert server.metric("embedserve_requests_total", route="/") == 0
    bodies: list[Any] = [{"inputs": "a"}, [], {"inputs": "a", "model": "no"}]
    statuses = [server.post("/", body).status_code for body in bodies]
    statuses.append(server.http.put("/", content=b"{}").status_code)
    assert statuses == [200, 422, 404, 405]
    assert [server.metric("embedserve_requests_total", route="/", status=str(one)) for one in statuses] == [1] * 4
    assert server.metric("embedserve_requests_in_flight", route="/") == 0


@pytest.mark.parametrize("name", ["no-such-model", "no/such/model", "no%20such%3Fmodel", "ü"])
def test_unknown_model(server: Server, name: str) -> None:
    plain = str(httpx.URL(f"http://h/{name}").path)[1:]
    sentence = f"Model with name {plain} does not exist."
    assert refused(server.post(f"/v1/models/{name}:predict", {"instances": ["a"]}), 404) == sentence
    assert refused(server.post(f"/v2/models/{name}/infer", request("a")), 404) == sentence
    for rest in ("", "/ready"):
        assert refused(server.http.get(f"/v2/models/{name}{rest}"), 404) == sentence


@pytest.mark.parametrize("version", ["2", "0", "01", "latest", "1.0"])
def test_unknown_version(server: Server, version: str) -> None:
    path = f"{V2}/versions/{version}"
    for reply in (server.http.get(path), server.http.get(f"{path}/ready"), server.post(f"{path}/infer", request("a"))):
        assert f"version {version} does not exist" in refused(reply, 404)


@pytest.mark.parametrize("path", ["/v2/health", "/v2/health/well", "/v2/repository/index"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_path(server: Server, method: str, path: str) -> None:
    refused(server.http.request(method, path), 404)


@pytest.mark.parametrize(("method", "path"), [("GET", V1), ("GET", INFER), ("POST", V2), ("POST", "/v2/health/ready")])
def test_wrong_method(server: Server, method: str, path: str) -> None:
    reply = server.http.request(method, path)
    refused(reply, 405)
    assert ("POST" in reply.headers["allow"]) == (method == "GET")


def test_keys(start_server: StartServer) -> None:
    server = start_server(env={"EMBEDSERVE_API_KEYS": KEY})
    for path in ("/", "/v2/health/live", "/v2/health/ready", f"{V2}/ready"):
        assert server.http.get(path).status_code == 200
    for path in ("/v2", V2):
        refused(server.http.get(path), 401)
        assert server.http.get(path, headers={"authorization": f"Bearer {KEY}"}).status_code == 200
    for path, body in ((V1, {"instances": ["a"]}), (INFER, request("a"))):
        refused(server.post(path, body), 401)
        refused(server.post(path, body, authorization="Bearer wrong-wrong-wrong"), 401)
        assert server.post(path, body, authorization=f"Bearer {KEY}").status_code == 200


def test_while_loading_and_after(start_server: StartServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = start_server(port=str(port), ready=False)
    server.at(port)
    seen = []

    def is_ready() -> bool:
        try:
            reply = server.http.get("/v2/health/ready")
            seen.append((reply.status_code, reply.json()))
        except httpx.ConnectError:
            return False
        return reply.status_code == 200

    wait_until(is_ready, "ready")
    assert set(map(str, seen)) <= {str((503, {"ready": False})), str((200, {"ready": True}))}


def test_while_draining(start_server: StartServer) -> None:
    server = start_server("--drain-grace", "20")
    server.process.terminate()
    wait_until(lambda: server.http.get("/v2/health/ready").status_code == 503, "not ready")
    assert server.http.get("/v2/health/ready").json() == {"ready": False}
    reply = server.http.get(f"{V2}/ready")
    assert (reply.status_code, reply.json()) == (503, {"name": MODEL, "ready": False})
    assert server.http.get(f"/v1/models/{MODEL}").json()["ready"] is False
    assert server.http.get("/v2/health/live").json() == {"live": True}
    assert vectors_of(server.post(INFER, request("a"))).shape == (1, DIMENSIONS)  # what still arrives is answered
    server.process.kill()


def test_overload_and_deadline(start_server: StartServer) -> None:
    slow = request(*full_windows(40))  # seconds of work on one executor, and more than the queue may hold
    server = start_server("--max-queue-tokens", "1000", "--executors", "1", "--max-inputs", "40")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(server.post, INFER, slow)
        wait_until(lambda: server.metric("embedserve_queue_tokens") > 1000, "a full queue")
        second = server.post(INFER, request(*full_windows(40, first=40)))
        assert vectors_of(first.result()).shape == (40, DIMENSIONS)
    refused(second, 429)
    assert int(second.headers["retry-after"]) >= 1
    refused(start_server(*HASTY).post(INFER, request(*TOO_MUCH)), 504)
