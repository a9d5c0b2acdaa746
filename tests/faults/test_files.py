"""A bundle's mapped weights are written to in place, under a running server, or replaced."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx
import numpy as np

from tests.conftest import Golden, StartServer
from tests.e2e.process import Server, openai_vectors, run_command, wait_until

WEIGHTS = "model.onnx.data"


def test_weights_written_over_in_place_are_noticed_and_answer_nobody(
    start_server: StartServer, bundle: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    server = start_server(model=folder)
    with (folder / WEIGHTS).open("r+b") as file:
        file.write(bytes(40_000_000))
    wait_until(lambda: server.post("/v1/embeddings", {"input": "a text"}).status_code == 503, "requests refused")
    assert [server.http.get(path).status_code for path in ("/livez", "/readyz")] == [503, 503]
    wait_until(lambda: "is corrupt" in server.stderr(), "a line that says why")  # which comes a moment later
    done = run_command("serve", folder, "--port", "0")
    assert done.returncode == 1


def test_weights_replaced_by_another_file_or_only_touched_change_nothing(
    start_server: StartServer, bundle: Path, tmp_path: Path, golden: Golden
) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    server = start_server(model=folder)
    (folder / "tokenizer.json").touch()
    (tmp_path / "other").write_bytes(b"something else")
    (tmp_path / "other").rename(folder / WEIGHTS)
    looks = 0

    def is_looked_at() -> bool:
        """Twice a look's time, by the server's own clock of ticks: a request every tenth of a second."""
        nonlocal looks
        looks += 1
        return server.http.get("/livez").status_code != 200 or looks > 25

    wait_until(is_looked_at, "two looks")
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4
    assert server.http.get("/livez").status_code == 200


def test_weights_cut_short_in_place_end_the_process_and_are_refused_by_the_next(
    start_server: StartServer, bundle: Path, tmp_path: Path, golden: Golden
) -> None:
    """No signal handler can give the pages back; what must never come is a wrong vector with status 200. Unless a look
    at the files comes before the first request."""
    folder = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    server = start_server(model=folder)
    os.truncate(folder / WEIGHTS, 0)
    answered = replies_until_the_end(server, golden)
    for number, reply in answered.items():
        if reply.status_code == 503:
            continue
        assert reply.status_code == 200
        assert np.abs(openai_vectors(reply) - golden.vectors[number]).max() <= 1e-4
    if any(reply.status_code == 503 for reply in answered.values()):
        assert server.http.get("/livez").status_code == 503
    else:
        assert server.wait() == -signal.SIGBUS
    done = run_command("serve", folder, "--port", "0")
    assert done.returncode == 1
    assert b"model.onnx.data" in done.stderr
    assert b"is corrupt" in done.stderr


def replies_until_the_end(server: Server, golden: Golden) -> dict[int, httpx.Response]:
    """By the golden text's number."""
    replies = {}
    for number, text in enumerate(golden.texts):
        try:
            replies[number] = server.post("/v1/embeddings", {"input": text})
        except httpx.TransportError:
            break
    return replies
