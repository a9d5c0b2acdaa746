"""The device's memory: bounded where it is to be, and no more after 1,500 requests than after 500."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from service.device_name import DeviceName
from tests.conftest import StartServer
from tests.e2e.process import assert_openai_error, cosines, full_windows, openai_vectors, run_command
from tests.gpu.device import CLIENTS, MIB, TOLERANCE, memory_used, text

pytestmark = pytest.mark.gpu


def test_a_limit_below_the_weights_ends_the_start(gpu: DeviceName, bundle: Path) -> None:
    done = run_command("serve", bundle, "--device", str(gpu), "--port", "0", "--gpu-memory-limit", "1000000")
    said = done.stderr.decode()
    assert done.returncode == 1
    assert "--gpu-memory-limit" in said
    assert "Traceback" not in said


def test_a_batch_beyond_the_limit_does_no_harm(device: DeviceName, bundle: Path, serve: StartServer) -> None:
    """16,384 tokens take twice as much for queries, keys and values alone; with fewer rows a batch fits."""
    weights = sum(file.stat().st_size for file in bundle.iterdir())
    server = serve("--gpu-memory-limit", str(weights + 32 * MIB))
    texts = full_windows(64)
    reply = server.post("/v1/embeddings", {"input": texts})
    if reply.status_code == 200:
        assert cosines(openai_vectors(reply)[:1], server.embed(texts[:1])).min() >= 0.9999
    else:
        assert_openai_error(reply, 500, "server_error")
    if device.kind != "cpu":
        assert server.metric("embedserve_failed_batches_total") > 0
    server.assert_well()
    assert server.http.get("/readyz").status_code == 200


def test_memory_does_not_grow_with_requests(device: DeviceName, serve: StartServer) -> None:
    server = serve()
    draw = random.Random(1)
    texts = [text(draw.randint(1, 254), seed) for seed in range(1500)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(server.embed, texts[:500]))
        early = memory_used(device, server.process.pid)
        list(pool.map(server.embed, texts[500:]))
    assert memory_used(device, server.process.pid) - early <= TOLERANCE
