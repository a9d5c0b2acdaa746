"""What replies say to browsers: which pages may read them, and what nobody may do with them."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from service.errors import StartupError
from service.protocol import MAX_HEAD_BYTES
from service.settings import load_settings
from tests.conftest import StartServer
from tests.e2e.process import VERTEX_MODEL, Raw, Server

KEY = "sk-of-a-page-0123456789abcdef"
PAGE, OTHER = "https://app.example.org", "https://evil.example.org"
BODY = {"input": "a"}


@pytest.fixture(scope="module")
def shared(launch: StartServer) -> Server:
    """A server for pages of two origins, with a key and a limit."""
    origins = f"{PAGE}, http://localhost:5173"
    flags = ("--cors-origins", origins, "--requests-per-minute", "1000")
    return launch(*flags, env={"EMBEDSERVE_API_KEYS": KEY})


def preflight(server: Server, origin: str, path: str = "/v1/embeddings", method: str = "POST") -> dict[str, str]:
    asked = {"origin": origin, "access-control-request-method": method}
    reply = server.http.options(
        path, headers={**asked, "access-control-request-headers": "authorization,x-stainless-os"}
    )
    return {"status": str(reply.status_code), **reply.headers}


@pytest.mark.parametrize("path", ["/v1/embeddings", VERTEX_MODEL, "/nowhere"])
@pytest.mark.parametrize("origin", [PAGE, "http://localhost:5173"])
def test_a_preflight_needs_no_key(shared: Server, origin: str, path: str) -> None:
    told = preflight(shared, origin, path)
    assert told["status"] == "200"
    assert told["access-control-allow-origin"] == origin
    assert "POST" in told["access-control-allow-methods"]
    assert told["access-control-allow-headers"] == "authorization,x-stainless-os"
    assert "Origin" in told["vary"]
    assert "access-control-allow-credentials" not in told
    assert (told["x-content-type-options"], told["cache-control"]) == ("nosniff", "no-store")


def test_other_origins_and_methods_are_refused(shared: Server) -> None:
    told = preflight(shared, OTHER)
    assert told["status"] == "400"
    assert "access-control-allow-origin" not in told
    assert preflight(shared, PAGE, method="DELETE")["status"] == "400"


def test_a_page_may_read_the_reply_and_its_headers(shared: Server) -> None:
    reply = shared.post("/v1/embeddings", BODY, origin=PAGE, authorization=f"Bearer {KEY}")
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["vary"] == "Origin"
    exposed = set(reply.headers["access-control-expose-headers"].split(", "))
    own = {name for name in reply.headers if name.startswith(("x-", "openai-"))} - {"x-content-type-options"}
    assert {"x-request-id", "x-ratelimit-remaining-requests"} <= own <= exposed
    assert {"retry-after", "retry-after-ms"} <= exposed
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(("path", "status"), [("/v1/embeddings", 401), ("/v1/models/no-such", 401), ("/nowhere", 404)])
def test_a_page_may_read_what_is_wrong(shared: Server, path: str, status: int) -> None:
    for reply in (shared.post(path, BODY, origin=PAGE), shared.http.options(path, headers={"origin": PAGE})):
        assert reply.status_code in (status, 405)
        assert reply.headers["access-control-allow-origin"] == PAGE


@pytest.mark.parametrize("headers", [{"origin": OTHER}, {}])
def test_nobody_else_may_and_caches_are_told_why(shared: Server, headers: dict[str, str]) -> None:
    reply = shared.post("/v1/embeddings", BODY, authorization=f"Bearer {KEY}", **headers)
    assert reply.status_code == 200
    assert "access-control-allow-origin" not in reply.headers
    assert reply.headers["vary"] == "Origin"


def test_all_origins_and_still_no_credentials(start_server: StartServer) -> None:
    server = start_server("--cors-origins", "*")
    assert preflight(server, OTHER)["access-control-allow-origin"] == "*"
    reply = server.post("/v1/embeddings", BODY, origin=OTHER, cookie="session=1")
    assert (reply.status_code, reply.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in reply.headers


def test_it_is_off_by_default(server: Server) -> None:
    assert preflight(server, PAGE)["status"] == "405"
    reply = server.post("/v1/embeddings", BODY, origin=PAGE)
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith(("access-control", "vary"))]


@pytest.mark.parametrize("origins", ["a.org", "https://a.org/", "https://A.org", "*,https://a.b", "null", "http://*"])
def test_what_is_no_origin_is_refused(origins: str) -> None:
    with pytest.raises(StartupError, match="the setting cors_origins is not valid"):
        load_settings({"cors_origins": origins})


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/embeddings", b'{"input": "a"}'),
        ("POST", "/v1/embeddings", b"{"),
        ("POST", VERTEX_MODEL, b'{"instances": [{"content": "a"}]}'),
        ("GET", "/v1/models", b""),
        ("GET", "/nowhere", b""),
        ("DELETE", "/v1/embeddings", b""),
        ("GET", "/livez", b""),
        ("GET", "/metrics", b""),
        ("GET", "/openapi.json", b""),
    ],
)
def test_every_reply_is_what_it_says_and_is_kept_nowhere(server: Server, method: str, path: str, body: bytes) -> None:
    headers = server.http.request(method, path, content=body).headers
    assert headers.get_list("x-content-type-options") == ["nosniff"]
    assert headers.get_list("cache-control") == ["no-store"]
    assert len(headers.get_list("date")) == 1
    assert not {"server", "x-powered-by", "strict-transport-security"} & headers.keys()


@pytest.mark.parametrize(("sent", "expected"), [(b"no request\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nx: ", 431)])
def test_so_is_what_answers_no_request(server: Server, sent: bytes, expected: int) -> None:
    with Raw(server.port) as raw:
        raw.send(sent)
        if expected == 431:
            raw.send(b"a" * MAX_HEAD_BYTES * 2)
        status, headers, body = raw.reply()
    assert status == expected
    assert body
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert (headers["connection"], headers["content-type"]) == ("close", "text/plain; charset=utf-8")


def test_the_documentation_runs_its_own_scripts_alone_and_in_no_frame(server: Server) -> None:
    page = server.http.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "no-referrer"
    inline = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in inline]
    assert policy["script-src"].split() == ["'self'", *(f"'sha256-{one}'" for one in hashes)]
    assert not re.findall(r"<[^>]*\son\w+\s*=", page.text)  # which no hash allows
    asset = server.http.get("/docs/assets/swagger-ui.css")
    assert asset.headers.get_list("cache-control") == ["max-age=86400"]
