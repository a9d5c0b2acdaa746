"""API keys: where clients put them, which are right, and what a wrong one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.e2e.process import (
    VERTEX_ENDPOINT,
    VERTEX_MODEL,
    Raw,
    Server,
    assert_google_error,
    assert_openai_error,
    run_command,
)

FIRST, SECOND, THIRD, FOURTH = "first-key-0123456789", "second-key-0123456789", "third-key", "fourth#key"
BODY = {"input": "a"}


@pytest.fixture(scope="module")
def guarded(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# of the search team\n{THIRD}\n\n   # indented comment\n  {FOURTH}  \n", "utf-8")
    return launch("--api-key-file", str(file), env={"EMBEDSERVE_API_KEYS": f"{FIRST}, {SECOND}"})


@pytest.mark.parametrize("key", [FIRST, SECOND, THIRD, FOURTH])
@pytest.mark.parametrize(
    ("header", "form"),
    [
        ("authorization", "Bearer {}"),
        ("authorization", "bearer {}"),
        ("authorization", "Bearer  {} "),
        ("api-key", "{}"),
        ("x-goog-api-key", "{}"),
    ],
)
def test_every_key_in_every_header(guarded: Server, key: str, header: str, form: str) -> None:
    assert guarded.post("/v1/embeddings", BODY, **{header: form.format(key).strip()}).status_code == 200


def test_key_in_the_query(guarded: Server) -> None:
    body = {"instances": [{"content": "a"}]}
    assert guarded.post(f"{VERTEX_MODEL}?key={FIRST}", body).status_code == 200
    assert guarded.post(f"{VERTEX_MODEL}?%24alt=json&key=fourth%23key", body).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"api-key": ""},
    ],
    ids=repr,
)
def test_no_key(guarded: Server, headers: dict[str, str]) -> None:
    error = assert_openai_error(guarded.post("/v1/embeddings", BODY, **headers), 401)
    assert error["code"] is None
    assert error["message"].startswith("You didn't provide an API key.")
    vertex = assert_google_error(guarded.post(VERTEX_MODEL, {"instances": []}, **headers), 401, "UNAUTHENTICATED")
    assert vertex["details"][0]["reason"] == "CREDENTIALS_MISSING"


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {FIRST}x"},
        {"authorization": f"Bearer {FIRST[:-1]}"},
        {"authorization": f"Bearer {FIRST.upper()}"},
        {"authorization": f"Bearer {FIRST},{SECOND}"},
        {"authorization": "Bearer # of the search team"},
        {"api-key": "sk-not-one-of-them"},
        {"x-goog-api-key": "ÿþ"},
        {"x-goog-api-key": "k" * 10_000},
    ],
    ids=lambda headers: ascii(headers)[:60],
)
def test_wrong_key(guarded: Server, headers: dict[str, str]) -> None:
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    reply = guarded.http.post("/v1/embeddings", json=BODY, headers=encoded)
    error = assert_openai_error(reply, 401)
    assert error["code"] == "invalid_api_key"
    for value in headers.values():
        assert value.removeprefix("Bearer ") not in reply.text
    vertex = guarded.http.post(VERTEX_ENDPOINT, json={"instances": []}, headers=encoded)
    assert assert_google_error(vertex, 401, "UNAUTHENTICATED")["details"][0]["reason"] == "API_KEY_INVALID"


def test_wrong_key_in_the_query(guarded: Server) -> None:
    assert_google_error(guarded.post(f"{VERTEX_MODEL}?key=wrong", {"instances": []}), 401, "UNAUTHENTICATED")


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/all-MiniLM-L6-v2"])
def test_models_need_a_key(guarded: Server, path: str) -> None:
    assert_openai_error(guarded.http.get(path), 401)
    assert guarded.http.get(path, headers={"api-key": SECOND}).status_code == 200


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/docs", "/openapi.json"])
def test_probes_metrics_and_documentation_are_open(guarded: Server, path: str) -> None:
    assert guarded.http.get(path).status_code == 200


def test_the_key_is_looked_at_before_the_body(guarded: Server) -> None:
    assert_openai_error(guarded.post("/v1/embeddings", b"\xff not JSON"), 401)
    assert_openai_error(guarded.post("/v1/embeddings", BODY), 401)


@pytest.mark.parametrize("header", ["Authorization: Bearer ", "Authorization: ", "x-goog-api-key:   ", "api-key:"])
def test_empty_headers_count_as_none(guarded: Server, server: Server, header: str) -> None:
    """As Open WebUI and Dify send them; httpx would not."""
    request = f"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: 14\r\n\r\n" + '{"input": "a"}'
    with Raw(guarded.port) as raw:
        raw.send(request.encode())
        status, _, body = raw.reply()
    assert status == 401
    assert b"You didn't provide an API key." in body
    with Raw(server.port) as raw:
        raw.send(request.encode())
        assert raw.reply()[0] == 200


@pytest.mark.parametrize("authorization", ["", "Bearer x", "Basic eDp5"])
def test_without_keys_anything_goes(server: Server, authorization: str) -> None:
    assert server.post("/v1/embeddings", BODY, authorization=authorization).status_code == 200


@pytest.mark.parametrize("content", ["", "\n\n", "# only\n  # comments\n"], ids=["empty", "blank", "comments"])
def test_key_file_without_keys_is_a_mistake(bundle: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content, "utf-8")
    done = run_command("serve", bundle, "--port", "0", "--api-key-file", file)
    assert done.returncode == 1
    assert b"holds no key" in done.stderr
    assert b"Traceback" not in done.stderr


def test_missing_key_file_is_a_mistake(bundle: Path, tmp_path: Path) -> None:
    done = run_command("serve", bundle, "--port", "0", "--api-key-file", tmp_path / "none")
    assert done.returncode == 1
    assert b"cannot be read" in done.stderr
    assert b"Traceback" not in done.stderr


def test_windows_key_file(start_server: StartServer, tmp_path: Path) -> None:
    """Notepad's byte order mark and line ends are no part of a key."""
    file = tmp_path / "keys"
    file.write_bytes(f"{FIRST}\r\n{SECOND}\r\n".encode("utf-8-sig"))
    server = start_server("--api-key-file", str(file))
    assert server.post("/v1/embeddings", BODY, api_key=SECOND).status_code == 200
    assert server.post("/v1/embeddings", BODY, api_key=FIRST).status_code == 200
