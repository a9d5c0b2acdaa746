"""An overload in which nobody's body is read any more: by its length alone it is clear that it stands no chance."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.conftest import StartServer
from tests.e2e.process import MODEL, Raw, Server, assert_openai_error, cosines, full_windows, wait_until

KEY = "k-0123456789abcdef"
AUTHORIZATION = f"authorization: Bearer {KEY}"
CLIENTS = 24
TRIES = 400
REFUSED = "embedserve_rejections_total"
NOT_JSON = b"x" * 1_000  # of about the size of the others


@pytest.fixture(scope="module")
def narrow(launch: StartServer) -> Iterator[Server]:
    """Little may wait; who asks needs a key."""
    server = launch("--executors", "1", "--max-queue-seconds", "0.2", "--api-keys", KEY)
    server.http.headers["authorization"] = f"Bearer {KEY}"
    for text in full_windows(10, 5_000):  # so many that it knows what a body will be
        assert server.post("/v1/embeddings", {"input": text}).status_code == 200
    yield server
    server.stop()


@contextmanager
def flooded(server: Server, body: Callable[[int], Mapping[str, object]] | None = None) -> Iterator[None]:
    """While the block is running, more comes than it can do: texts of a full window, or the bodies of these numbers."""
    over = threading.Event()
    texts = full_windows(CLIENTS * 50) if body is None else []

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, headers=server.http.headers, timeout=60, trust_env=False) as client:
            while not over.is_set():
                client.post("/v1/embeddings", json=body(number) if body else {"input": texts[number % len(texts)]})
                number += CLIENTS

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for one in threads:
        one.start()
    try:
        wait_until(partial(is_refusing, server, 0), "an overload")
        yield
    finally:
        over.set()
        for one in threads:
            one.join()


def in_one_of_many(attempt: Callable[[], bool], what: str) -> None:
    """Now and then a batch has just been taken, and there is room."""
    for _ in range(TRIES):
        if attempt():
            return
        time.sleep(0.01)
    pytest.fail(f"never {what}")


def test_a_body_is_refused_unread_and_without_a_key_still_401(narrow: Server) -> None:
    def spoilt(**headers: str) -> httpx.Response:
        return narrow.http.post("/v1/embeddings", content=NOT_JSON, headers=headers)

    def is_refused_unread() -> bool:
        assert spoilt(authorization="Bearer wrong").status_code == 401
        reply = spoilt()
        if reply.status_code == 400:
            return False
        assert assert_openai_error(reply, 429, "tokens")["code"] == "rate_limit_exceeded"
        assert int(reply.headers["retry-after"]) >= 1
        return True

    with flooded(narrow):
        in_one_of_many(is_refused_unread, "refused unread")
    wait_until(lambda: spoilt().status_code == 400, "a look at the body again")


def test_who_has_not_sent_its_body_yet_is_told_at_once_and_may_go_on(narrow: Server) -> None:
    body = json.dumps({"input": "A body that nobody waited for. " * 30}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\n{AUTHORIZATION}\r\ncontent-length: {len(body)}\r\n\r\n"

    def is_told() -> bool:
        with Raw(narrow.port) as raw:
            raw.socket.settimeout(0.5)
            raw.send(head.encode())
            try:
                status, headers, _ = raw.reply()
            except TimeoutError:
                return False
            raw.socket.settimeout(30)
            assert status == 429
            assert "connection" not in headers
            raw.send(body + b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
            assert raw.reply()[0] == 200
            return True

    with flooded(narrow):
        in_one_of_many(is_told, "told before its body")


def test_short_requests_and_others_than_those_that_are_too_many_are_let_in(narrow: Server) -> None:
    """A class of its own has room, and so has a route that computes nothing."""
    text = full_windows(1, 9_000)[0]
    alone = narrow.embed(text)
    with flooded(narrow):
        for _ in range(5):
            assert narrow.post("/tokenize", {"inputs": text}).status_code == 200
            assert narrow.http.get(f"/v1/models/{MODEL}").status_code == 200
        wait_until(
            lambda: narrow.post("/v1/embeddings", {"input": full_windows(8, 9_000)}).status_code == 200, "a larger one"
        )
    wait_until(lambda: narrow.post("/v1/embeddings", {"input": text}).status_code == 200, "room")
    assert cosines(narrow.embed(text), alone).min() >= 0.999999
    assert np.isfinite(alone).all()
    assert narrow.metric("embedserve_requests_in_flight", route="/v1/embeddings") == 0


def test_a_few_plain_words_have_room_beside_a_flood_of_what_has_a_token_a_byte(launch: StartServer) -> None:
    """By its length, and by what others of that length have, it is as large as those that are too many."""
    server = launch("--executors", "1", "--max-queue-seconds", "0.5")
    words = "The committee met on Tuesday and spoke of the new library building near the river in the old town. " * 18

    def bulk(number: int) -> dict[str, object]:
        """Of two classes, one next to the other."""
        return {"input": [f"{number} {i} " + "?!;:,.()" * 29 for i in range((6, 18)[number % 2])]}

    for number in range(-10, 0):
        assert server.post("/v1/embeddings", bulk(number)).status_code == 200
    replies = []
    with flooded(server, bulk):
        for number in range(8):
            wait_until(partial(is_refusing, server, server.metric(REFUSED)), "others being refused")
            replies.append(server.post("/v1/embeddings", {"input": f"{number} {words}"}))
    assert [reply.status_code for reply in replies] == [200] * len(replies)
    server.stop()


def test_late_chunks_wait_in_a_queue_of_their_own(launch: StartServer) -> None:
    server = launch("--executors", "1", "--max-queue-seconds", "0.2")
    late = {"chunking": {"max_tokens": 32}, "late": True}
    for text in full_windows(10, 5_000):
        assert server.post("/v1/embeddings", {"input": text}).status_code == 200
    with flooded(server):
        in_one_of_many(lambda: server.post("/v1/embeddings", {"input": "cat " * 60, **late}).status_code == 200, "read")
        found = [server.post("/v1/embeddings", {"input": f"{n} " + "cat " * 60, **late}).status_code for n in range(10)]
    assert found == [200] * 10
    server.stop()


def is_refusing(server: Server, before: float) -> bool:
    return server.metric(REFUSED) > before


def test_a_model_that_is_idle_is_not_judged_by_another_that_is_overloaded(
    launch: StartServer, bundle: Path, tmp_path: Path
) -> None:
    """It has answered nothing yet, and so does not know what a body will be."""
    file = tmp_path / "models.toml"
    file.write_text("".join(f'[[models]]\nmodel = "{bundle}"\nname = "{name}"\n' for name in ("busy", "idle")))
    flags = ("--config", str(file), "--executors", "1", "--max-queue-seconds", "0.2")
    server = launch(*flags, model=None, no_model=True)
    for text in full_windows(10, 5_000):
        assert server.post("/v1/embeddings", {"input": text, "model": "busy"}).status_code == 200
    replies = []
    texts = full_windows(CLIENTS * 50)
    with flooded(server, lambda number: {"input": texts[number % len(texts)], "model": "busy"}):
        for text in full_windows(10, 6_000):
            wait_until(partial(is_refusing, server, server.metric(REFUSED)), "others being refused")
            replies.append(server.post("/v1/embeddings", {"input": text, "model": "idle"}))
    assert [reply.status_code for reply in replies] == [200] * len(replies)
    assert server.metric(REFUSED, model="idle") == 0
    server.stop()
