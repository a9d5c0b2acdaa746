"""A bit of everything that a dashboard has a panel for."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from service.key_file import line_of
from tests.e2e.process import Server, full_windows, wait_until

KEY, LIMITED = "k" * 40, "l" * 40
FLAGS = ("--cache-bytes", "2000000", "--max-queue-tokens", "3000", "--client-timeout", "1")
_OPENAI = "/v1/embeddings"


def key_file(folder: Path) -> Path:
    """Of a key that may do anything, and one that may send one request a minute."""
    file = folder / "keys"
    file.write_text(f"{line_of(KEY, 'name=search')}\n{line_of(LIMITED, 'name=trial', 'requests_per_minute=1')}\n")
    return file


def send(server: Server) -> None:
    """All of it, once: some seconds."""
    server.http.headers["api-key"] = KEY
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: server.post(_OPENAI, {"input": [f"short text {i} {j}" for j in range(8)]}), range(40)))
        list(pool.map(lambda _: server.post(_OPENAI, {"input": "the same again"}), range(16)))
        list(pool.map(lambda i: server.predict(f"a text of Vertex's {i}"), range(8)))
    server.predict("word " * 600, autoTruncate=True)
    server.post(_OPENAI, {"input": full_windows(6)})
    server.post("/", {"inputs": "as Hugging Face's clients ask"})
    server.http.get("/")
    server.post(_OPENAI, b"{")
    server.post(_OPENAI, {"input": "a"}, api_key=LIMITED)
    assert server.post(_OPENAI, {"input": "a"}, api_key=LIMITED).status_code == 429
    _never_send_a_head(server)
    _overload(server)
    _be_late(server)


def _never_send_a_head(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"POST /v1/emb")
        wait_until(lambda: server.metric("embedserve_connections_cut_total") > 0, "the silent client to be cut")


def _overload(server: Server) -> None:
    """More than the queue holds, until somebody is refused."""
    first = iter(range(1_000, 1_000_000, 100))

    def is_refused() -> bool:
        with ThreadPoolExecutor(8) as pool:
            bodies = [{"input": full_windows(10, next(first))} for _ in range(8)]
            return 429 in [one.status_code for one in pool.map(lambda body: server.post(_OPENAI, body), bodies)]

    wait_until(is_refused, "a refusal")


def _be_late(server: Server) -> None:
    """Requests whose deadline is over while they wait, and while they run."""
    first = iter(range(2_000_000, 9_000_000, 100))

    def is_late() -> bool:
        server.post(_OPENAI, {"input": full_windows(12, next(first))}, x_request_timeout_ms="40")
        return bool(server.metric("embedserve_dropped_total") and server.metric("embedserve_unclaimed_rows_total"))

    wait_until(is_late, "work that was dropped, and work that nobody took")
