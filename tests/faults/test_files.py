"""A bundle's mapped weights are cut short in place, under a running server."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import httpx
import numpy as np

from tests.conftest import Golden, StartServer
from tests.e2e.process import Server, openai_vectors, run_command


def test_weights_cut_short_in_place_end_the_process_and_are_refused_by_the_next(
    start_server: StartServer, bundle: Path, tmp_path: Path, golden: Golden
) -> None:
    """No signal handler can give the pages back; what must never come is a wrong vector with status 200."""
    folder = Path(shutil.copytree(bundle, tmp_path / bundle.name))
    server = start_server(model=folder)
    os.truncate(folder / "model.onnx.data", 0)
    answered = replies_until_the_end(server, golden)
    for number, reply in answered.items():
        assert reply.status_code == 200
        assert np.abs(openai_vectors(reply) - golden.vectors[number]).max() <= 1e-4
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
