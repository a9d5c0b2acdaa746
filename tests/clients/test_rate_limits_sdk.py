"""Rate limits as the `openai` package sees them: its error, its headers, and its own retries."""

from __future__ import annotations

import openai
import pytest

from service.key_file import line_of
from tests.clients.environments import Node, Python, have_node
from tests.clients.test_cohere_sdk import CLIENT as COHERE
from tests.clients.test_openai_clients import NODE as OPENAI_NODE
from tests.clients.test_openai_sdk import connect
from tests.conftest import StartServer
from tests.e2e.process import MODEL, Server

HELLO = "hello"  # 3 tokens


@pytest.fixture(scope="module")
def limited(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Server:
    file = tmp_path_factory.mktemp("keys") / "keys"
    lines = [
        line_of("sk-one", "name=one", "requests_per_minute=1"),
        line_of("sk-many", "name=many", "requests_per_minute=120"),
        line_of("sk-tokens", "name=tokens", "tokens_per_minute=300", "requests_per_minute=60"),
    ]
    file.write_text("\n".join(lines), "utf-8")
    return launch("--api-key-file", str(file))


def refusals(server: Server, key: str) -> float:
    return server.metric("embedserve_key_rate_limited_total", key=key)


def test_the_error_is_a_rate_limit_error(limited: Server) -> None:
    with connect(limited, "sk-one") as client:
        client.embeddings.create(model=MODEL, input=HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            client.embeddings.create(model=MODEL, input=HELLO)
    assert (refused.value.type, refused.value.code) == ("requests", "rate_limit_exceeded")
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


def test_a_client_that_retries_as_told_loses_nothing(limited: Server) -> None:
    """With the package's own two retries. How many requests it takes to reach the limit is the machine's matter."""
    with connect(limited, "sk-many").with_options(max_retries=2) as client:
        sent = 0
        while refusals(limited, "many") < 3:
            assert len(client.embeddings.create(model=MODEL, input=HELLO).data) == 1
            sent += 1
            assert sent < 3_000
    assert limited.metric("embedserve_key_requests_total", key="many") == sent + refusals(limited, "many")
    assert limited.metric("embedserve_key_tokens_total", key="many") == 3 * sent


def test_headers_and_what_can_never_pass(limited: Server) -> None:
    with connect(limited, "sk-tokens").with_options(max_retries=2) as client:
        raw = client.embeddings.with_raw_response.create(model=MODEL, input=[HELLO] * 10)
        assert len(raw.parse().data) == 10
        headers = raw.headers
        assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-limit-requests"]) == ("300", "60")
        assert int(headers["x-ratelimit-remaining-tokens"]) in range(270, 300)
        assert headers["x-ratelimit-reset-tokens"].endswith("s")
        with pytest.raises(openai.RateLimitError, match="can never pass") as refused:
            client.embeddings.create(model=MODEL, input=[HELLO] * 101)
    assert refused.value.type == "tokens"
    assert refusals(limited, "tokens") == 1  # and so it was not tried again


@pytest.fixture(scope="module")
def slow(launch: StartServer) -> Server:
    """Keys for six requests a minute."""
    keys = ",".join(f"{line_of(f'sk-{name}')} name={name} requests_per_minute=6" for name in ("cohere", "node"))
    return launch(env={"EMBEDSERVE_API_KEYS": keys})


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("name", "client", "script", "error"),
    [
        ("cohere", COHERE, "limited_cohere.py", "TooManyRequestsError"),
        pytest.param(
            *("node", OPENAI_NODE, "limited_openai.mjs", "RateLimitError"),
            marks=pytest.mark.skipif(not have_node(), reason="no node and npm here"),
        ),
    ],
)
def test_other_packages_wait_as_told(slow: Server, name: str, client: Python | Node, script: str, error: str) -> None:
    """The seventh request is refused, and is answered after the wait that its client was told."""
    found = client.run(script, slow.url, f"sk-{name}", MODEL)
    assert found["answered"] == 7
    assert (found["refused"]["name"], found["refused"]["status"]) == (error, 429)
    assert refusals(slow, name) == 2
