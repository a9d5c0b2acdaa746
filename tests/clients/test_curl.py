"""curl, as the README shows it."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.process import DIMENSIONS, MODEL, PATIENCE, VERTEX_MODEL, Server

CURL = shutil.which("curl")
pytestmark = pytest.mark.skipif(CURL is None, reason="curl is not installed")


def curl(*arguments: str) -> str:
    done = subprocess.run(
        [str(CURL), "--noproxy", "*", "--silent", "--show-error", "--max-time", "30", *arguments],
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout.decode()


def test_the_line_that_the_server_prints(server: Server) -> None:
    """What "Try: …" shows works in a shell as it stands."""
    line = server.stdout().partition("Try: ")[2].strip()
    assert line.startswith("curl http://127.0.0.1:")
    done = subprocess.run(
        line.replace("curl ", "curl -sS --noproxy '*' ", 1),
        shell=True,
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert len(json.loads(done.stdout)["data"][0]["embedding"]) == DIMENSIONS


def test_openai(server: Server) -> None:
    body = json.dumps({"model": MODEL, "input": ["Hello", "world"]})
    reply = json.loads(curl(f"{server.url}/v1/embeddings", "-H", "content-type: application/json", "-d", body))
    assert [len(one["embedding"]) for one in reply["data"]] == [DIMENSIONS] * 2


def test_openai_without_a_content_type(server: Server) -> None:
    """curl's own is application/x-www-form-urlencoded."""
    reply = json.loads(curl(f"{server.url}/v1/embeddings", "-d", '{"input": "Hello"}'))
    assert len(reply["data"]) == 1


def test_models(server: Server) -> None:
    assert json.loads(curl(f"{server.url}/v1/models"))["data"][0]["id"] == MODEL


def test_vertex(server: Server) -> None:
    body = json.dumps({"instances": [{"content": "Hello, world"}]})
    reply = json.loads(curl(f"{server.url}{VERTEX_MODEL}", "-H", "content-type: application/json", "-d", body))
    assert len(reply["predictions"][0]["embeddings"]["values"]) == DIMENSIONS
    assert reply["metadata"] == {"billableCharacterCount": 11}


def test_expect_100_continue(server: Server) -> None:
    """curl sends it of itself with bodies of 1 MiB and more."""
    body = json.dumps({"input": "a", "padding": "x" * 2_000_000})
    done = subprocess.run(
        [
            str(CURL),
            *("--noproxy", "*", "-sS", "--max-time", "30", "-H", "Expect: 100-continue"),
            *("--data-binary", "@-", f"{server.url}/v1/embeddings"),
        ],
        input=body.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=True,
    )
    assert len(json.loads(done.stdout)["data"]) == 1


def test_chunked_upload(server: Server) -> None:
    arguments = ["-H", "Transfer-Encoding: chunked", "-d", '{"input": "Hello"}']
    assert len(json.loads(curl(f"{server.url}/v1/embeddings", *arguments))["data"]) == 1


@pytest.mark.parametrize(("path", "word"), [("/livez", "alive"), ("/readyz", "ready")])
def test_probes(server: Server, path: str, word: str) -> None:
    assert json.loads(curl("--fail", f"{server.url}{path}")) == {"status": word}


def test_head(server: Server) -> None:
    assert "200 OK" in curl("--head", f"{server.url}/v1/models").splitlines()[0]


def test_http_1_0(server: Server) -> None:
    reply: dict[str, Any] = json.loads(curl("--http1.0", f"{server.url}/v1/embeddings", "-d", '{"input": "Hello"}'))
    assert len(reply["data"]) == 1


def test_metrics(server: Server) -> None:
    assert list(text_string_to_metric_families(curl(f"{server.url}/metrics")))
