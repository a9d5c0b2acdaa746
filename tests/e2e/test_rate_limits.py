"""Limits of keys, through the front door: OpenAI's headers, and 429 in the words of every dialect."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.key_file import line_of
from tests.conftest import StartServer
from tests.e2e.process import (
    MODEL,
    VERTEX_ENDPOINT,
    VERTEX_MODEL,
    Raw,
    Server,
    assert_google_error,
    assert_openai_error,
    wait_until,
)

BODY = {"input": "hello"}  # 3 tokens
INFER = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
# Each with a key of its own, which may make one request a minute.
DIALECTS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/embeddings", BODY),
    "vertex": (VERTEX_MODEL, {"instances": [{"content": "a"}]}),
    "endpoint": (VERTEX_ENDPOINT, {"instances": [{"content": "a"}]}),
    "gemini": (f"/v1beta/models/{MODEL}:embedContent", {"content": {"parts": [{"text": "a"}]}}),
    "cohere": ("/v2/embed", {"model": MODEL, "input_type": "search_query", "texts": ["a"]}),
    "tei": ("/embed", {"inputs": "a"}),
    "kserve": (f"/v2/models/{MODEL}/infer", INFER),
}
TOKENS = ("tokens", "tokens-google", "tokens-cohere", "tokens-tei", "tokens-kserve", "too-large", "pipelined")
DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+(\.\d+)?s)|\d+ms")


def key_of(name: str) -> str:
    return f"sk-test-{name}-0123456789abcdef"


@pytest.fixture(scope="module")
def limited(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    lines = [line_of(key_of(name), f"name={name}", "requests_per_minute=1") for name in DIALECTS]
    lines += [line_of(key_of(name), f"name={name}", "tokens_per_minute=100") for name in TOKENS]
    lines += [
        line_of(key_of("free"), "name=free", "requests_per_minute=unlimited"),
        line_of(key_of("fast"), "name=fast", "requests_per_minute=60"),
        line_of(key_of("old"), "name=team", "requests_per_minute=1"),
        line_of(key_of("new"), "name=team", "requests_per_minute=1"),
        line_of(key_of("mistaken"), "requests_per_minute=2"),
        line_of(key_of("hasty"), "requests_per_minute=2"),
        f"{key_of('usual')}",
    ]
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("\n".join(lines), "utf-8")
    return launch("--api-key-file", str(file), "--requests-per-minute", "1000", "--log-level", "debug")


def post(server: Server, name: str, path: str = "/v1/embeddings", body: Any = BODY) -> httpx.Response:
    return server.post(path, body, authorization=f"Bearer {key_of(name)}")


def ratelimits(reply: httpx.Response) -> dict[str, str]:
    prefix = "x-ratelimit-"
    return {name.removeprefix(prefix): value for name, value in reply.headers.items() if name.startswith(prefix)}


def retry_after(reply: httpx.Response) -> float:
    """The exact one; the other is its whole seconds, one at least."""
    exact = int(reply.headers["retry-after-ms"])
    assert int(reply.headers["retry-after"]) == max(1, -(-exact // 1000))
    return exact / 1000


def refused_for_requests(server: Server, dialect: str) -> httpx.Response:
    path, body = DIALECTS[dialect]
    first, second = post(server, dialect, path, body), post(server, dialect, path, body)
    assert first.status_code == 200, first.text
    assert ratelimits(first)["remaining-requests"] == "0"
    assert second.status_code == 429, second.text
    assert ratelimits(second)["limit-requests"] == "1"
    assert 0 < retry_after(second) <= 60
    return second


def test_openais_words(limited: Server) -> None:
    error = assert_openai_error(refused_for_requests(limited, "openai"), 429, "requests")
    assert error["code"] == "rate_limit_exceeded"
    assert re.fullmatch(
        r"Rate limit reached on requests per min \(RPM\): Limit 1, Used 1, Requested 1\. Please try again in \S+s\.",
        error["message"],
    )


@pytest.mark.parametrize("dialect", ["vertex", "endpoint", "gemini"])
def test_googles_words(limited: Server, dialect: str) -> None:
    error = assert_google_error(refused_for_requests(limited, dialect), 429, "RESOURCE_EXHAUSTED")
    assert error["message"].startswith("Quota exceeded for requests per minute: limit 1, used 1, requested 1.")
    failure, info = error["details"]
    assert failure["@type"].endswith("google.rpc.QuotaFailure")
    assert failure["violations"][0]["subject"] == "requests_per_minute"
    assert 0 < float(info["retryDelay"].removesuffix("s")) <= 60


def test_coheres_words(limited: Server) -> None:
    message = refused_for_requests(limited, "cohere").json()["message"]
    assert message.startswith("You are past the per minute request limit of 1, please wait and try again later")


def test_teis_words(limited: Server) -> None:
    body = refused_for_requests(limited, "tei").json()
    assert body["error_type"] == "Overloaded"
    assert "1 requests are allowed in a minute" in body["error"]


def test_kserves_words(limited: Server) -> None:
    body = refused_for_requests(limited, "kserve").json()
    assert set(body) == {"error"}
    assert body["error"].startswith("Rate limit reached: 1 requests are allowed in a minute")


def test_tokens_are_those_of_the_usage(limited: Server) -> None:
    many = {"input": ["hello"] * 20}
    first = post(limited, "tokens", body=many)
    assert first.json()["usage"]["total_tokens"] == 60
    told = ratelimits(first)
    assert (told["limit-requests"], told["limit-tokens"]) == ("1000", "100")
    assert 40 <= int(told["remaining-tokens"]) <= 99  # they come back meanwhile
    assert DURATION.fullmatch(told["reset-tokens"])
    second = post(limited, "tokens", body={"input": ["hello"] * 33})
    error = assert_openai_error(second, 429, "tokens")
    assert error["message"].startswith("Rate limit reached on tokens per min (TPM): Limit 100, Used ")
    assert 0 < retry_after(second) <= 60
    assert post(limited, "tokens", body=BODY).status_code == 200  # 3 tokens are there


@pytest.mark.parametrize(
    ("name", "path", "body"),
    [
        ("tokens-google", VERTEX_MODEL, {"instances": [{"content": "hello"}] * 30}),
        ("tokens-cohere", "/v2/embed", {"model": MODEL, "input_type": "search_query", "texts": ["hello"] * 30}),
        ("tokens-tei", "/embed", {"inputs": ["hello"] * 30}),
        ("tokens-kserve", f"/v1/models/{MODEL}:predict", {"instances": ["hello"] * 30}),
    ],
)
def test_every_dialects_tokens_are_counted(limited: Server, name: str, path: str, body: dict[str, Any]) -> None:
    assert post(limited, name, path, body).status_code == 200
    refused = post(limited, name, path, body)
    assert refused.status_code == 429, refused.text
    assert "tokens" in refused.text
    assert limited.metric("embedserve_key_rate_limited_total", key=name, limit="tokens") == 1


def test_what_can_never_pass_is_told_so(limited: Server) -> None:
    reply = post(limited, "too-large", body={"input": ["hello"] * 34})
    error = assert_openai_error(reply, 429, "tokens")
    assert "Limit 100, Requested 102. It can never pass" in error["message"]
    assert reply.headers["x-should-retry"] == "false"
    assert "retry-after" not in reply.headers
    google = post(limited, "too-large", VERTEX_MODEL, {"instances": [{"content": "hello"}] * 34})
    assert "can never pass" in assert_google_error(google, 429, "RESOURCE_EXHAUSTED")["message"]
    assert post(limited, "too-large", body={"input": ["hello"] * 33}).status_code == 200


def test_who_waits_as_told_is_let_in(limited: Server) -> None:
    """At once it is not; the wait is of the client's own clock."""
    replies = [post(limited, "fast") for _ in range(61)]
    while replies[-1].status_code == 200:  # they came back as fast as they were used
        replies.append(post(limited, "fast"))
        assert len(replies) < 2_000
    wait = retry_after(replies[-1])
    assert wait <= 1
    time.sleep(wait)
    assert post(limited, "fast").status_code == 200


def test_keys_of_one_name_share_their_limits(limited: Server) -> None:
    assert post(limited, "old").status_code == 200
    assert post(limited, "new").status_code == 429


def test_every_reply_has_the_headers_and_mistakes_count(limited: Server) -> None:
    bad = post(limited, "mistaken", body=b"{")
    assert (bad.status_code, ratelimits(bad)["remaining-requests"]) == (400, "1")
    rerank = post(limited, "mistaken", "/v1/rerank", {"query": "a", "documents": ["b"]})
    assert (rerank.status_code, ratelimits(rerank)["remaining-requests"]) == (400, "0")
    assert post(limited, "mistaken", "/v1/rerank", {}).status_code == 429
    models = limited.http.get("/v1/models", headers={"api-key": key_of("mistaken")})
    assert (models.status_code, ratelimits(models)) == (200, {})  # which are no work


def test_a_deadline_that_is_none_is_a_mistake_that_counts(limited: Server) -> None:
    own = {"authorization": f"Bearer {key_of('hasty')}", "x-request-timeout-ms": "soon"}
    replies = [limited.post("/v1/embeddings", BODY, **own) for _ in range(3)]
    assert [one.status_code for one in replies] == [400, 400, 429]
    assert [ratelimits(one)["remaining-requests"] for one in replies] == ["1", "0", "0"]


def test_the_settings_limit_is_that_of_keys_that_have_no_own(limited: Server) -> None:
    assert ratelimits(post(limited, "usual"))["limit-requests"] == "1000"
    assert ratelimits(post(limited, "free")) == {}
    assert ratelimits(limited.post("/v1/embeddings", BODY, authorization="Bearer wrong")) == {}


def test_a_pipelined_request_pays_with_its_own_key(limited: Server) -> None:
    body = b'{"input": "hello"}'
    with Raw(limited.port) as raw:
        for name in ("pipelined", "free", "pipelined"):
            raw.post(body, f"Authorization: Bearer {key_of(name)}")
        told = [raw.reply()[1].get("x-ratelimit-remaining-tokens") for _ in range(3)]
    assert told[1] is None
    assert int(told[0] or 0) >= 97
    assert int(told[2] or 0) >= 94
    assert limited.metric("embedserve_key_tokens_total", key="pipelined") == 6


def test_names_are_in_logs_and_metrics_and_keys_are_not(limited: Server) -> None:
    reply = post(limited, "free")
    (line,) = limited.access_lines(reply.headers["x-request-id"])
    assert line["key"] == "free"
    assert limited.metric("embedserve_key_requests_total", key="free") >= 1
    everything = limited.stderr() + limited.stdout() + limited.http.get("/metrics").text
    assert "sk-test-" not in everything
    assert "sha256:" not in everything


def test_without_keys_all_clients_share_one_limit(start_server: StartServer) -> None:
    server = start_server("--requests-per-minute", "2")
    assert [server.post("/v1/embeddings", BODY, authorization=f"Bearer {i}").status_code for i in range(3)] == [
        *(200, 200, 429)
    ]


def test_a_rewritten_file_keeps_what_was_used_and_forgets_who_left(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    stays, leaves = line_of(key_of("stays"), "name=stays", "requests_per_minute=1"), f"{key_of('leaves')} name=leaves"
    file.write_text(f"{stays}\n{leaves}\n")
    server = start_server("--api-key-file", str(file))
    assert [post(server, name).status_code for name in ("stays", "leaves")] == [200, 200]
    file.write_text(f"{stays}\n# {leaves}\n")
    wait_until(lambda: post(server, "leaves").status_code == 401, "the file is read again")
    assert post(server, "stays").status_code == 429
    assert 'key="leaves"' not in server.http.get("/metrics").text
    file.write_text(f"{stays} nonsense\n")
    wait_until(lambda: (post(server, "stays"), "stay as they were" in server.stderr())[1], "the mistake is logged")
    assert key_of("stays") not in server.stderr()
    assert post(server, "leaves").status_code == 401
