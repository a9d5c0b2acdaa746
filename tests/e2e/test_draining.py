"""The grace between SIGTERM and the refusal of connections, as the connections see it."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.conftest import StartServer
from tests.e2e.process import Raw, Server, wait_until

BODY = b'{"input": "a"}'


def test_while_draining_replies_end_their_connections_and_idle_ones_stay_until_the_grace_is_over(
    start_server: StartServer,
) -> None:
    """So a proxy is never closed upon while it sends: it learns with a reply that the connection is not to be used."""
    server = start_server("--drain-grace", "4")
    with Raw(server.port) as busy, Raw(server.port) as idle, Raw(server.port) as unused:
        for raw in (busy, idle):
            raw.post(BODY)
            status, headers, _ = raw.reply()
            assert (status, headers.get("connection")) == (200, None)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail", patience=3)
        for raw in (busy, idle):
            raw.post(BODY)
            status, headers, _ = raw.reply()
            assert (status, headers["connection"]) == (200, "close")
            assert raw.closed_by_server()
        assert server.process.poll() is None
        assert unused.closed_by_server()  # waits for the grace's end
    assert server.wait() == 0


def test_a_body_that_has_not_come_when_the_drain_is_over_gets_503(start_server: StartServer) -> None:
    server = start_server("--drain-grace", "0", "--drain-timeout", "1")
    head = b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 400\r\n\r\n"
    with Raw(server.port) as silent, Raw(server.port) as halfway:
        silent.send(head)
        halfway.send(head + b'{"inp')
        wait_until(lambda: server.metric("embedserve_requests_in_flight") >= 2, "both being read")
        server.signal(signal.SIGTERM)
        for raw in (silent, halfway):
            status, headers, body = raw.reply()
            assert (status, headers["connection"]) == (503, "close")
            assert "The server is shutting down." in json.loads(body)["error"]["message"]
    assert server.wait() == 0
    assert "Traceback" not in server.stderr()


@pytest.mark.parametrize("grace", ["0", "0.3"])
def test_whoever_has_connected_before_the_end_is_answered(start_server: StartServer, grace: str) -> None:
    """A new connection for each request and no proxy; those count that the kernel holds when the listener closes."""
    server = start_server("--drain-grace", grace)
    with ThreadPoolExecutor(8) as pool:
        enough = threading.Barrier(9)
        asking = [pool.submit(_ask_until_refused, server, enough) for _ in range(8)]
        enough.wait(30)
        server.signal(signal.SIGTERM)
        assert [lost for one in asking for lost in one.result()] == []
    assert server.wait() == 0


def _ask_until_refused(server: Server, enough: threading.Barrier) -> list[str]:
    """What was lost: a request whose connection was taken, and not answered with 200."""
    for number in range(100_000):
        if number == 10:
            enough.wait(30)
        try:
            status = httpx.post(f"{server.url}/v1/embeddings", content=BODY, timeout=30, trust_env=False).status_code
        except httpx.ConnectError:
            return []
        except httpx.TransportError as error:
            return [repr(error)]
        if status != 200:
            return [str(status)]
    return ["never refused"]
