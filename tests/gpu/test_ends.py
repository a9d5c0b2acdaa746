"""The ways out: with a drain nothing is lost, and without one nothing stays on the device."""

from __future__ import annotations

import json
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.device_name import DeviceName
from tests.conftest import StartServer
from tests.e2e.process import Raw, Server, full_windows, wait_until
from tests.gpu.device import TOLERANCE, memory_used

pytestmark = pytest.mark.gpu

CLIENTS = 8
TEXTS = 4  # a request


def ask_until_refused(server: Server, first: int) -> list[str]:
    """A connection for each request. → what was lost: a request whose connection was taken, and that got no vectors."""
    for number in range(100_000):
        body = json.dumps({"input": full_windows(TEXTS, first + TEXTS * number)}).encode()
        try:
            with Raw(server.port) as raw:
                raw.post(body)
                status, _, reply = raw.reply()
        except ConnectionRefusedError:
            return []
        except OSError as error:
            return [repr(error)]
        if status != 200 or len(json.loads(reply)["data"]) != TEXTS:
            return [reply.decode()]
    return ["never refused"]


def test_sigterm_under_load_answers_every_request(serve: StartServer) -> None:
    server = serve("--drain-timeout", "60")
    with ThreadPoolExecutor(CLIENTS) as pool:
        asking = [pool.submit(ask_until_refused, server, 8_000 * i) for i in range(CLIENTS)]
        wait_until(lambda: server.metric("embedserve_requests_total", route="/v1/embeddings") >= 3 * CLIENTS, "a load")
        server.signal(signal.SIGTERM)
        assert [lost for one in asking for lost in one.result()] == []
    assert server.wait() == 0
    assert server.logged()[-1]["message"] == "stopped"


def test_sigkill_leaves_no_memory_on_the_device(gpu: DeviceName, serve: StartServer) -> None:
    before = memory_used(gpu, 0)
    server = serve()
    server.embed(full_windows(64))
    assert memory_used(gpu, server.process.pid) > before + TOLERANCE
    server.signal(signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    wait_until(lambda: memory_used(gpu, 0) <= before + TOLERANCE, "the device's memory to be free again", patience=30)
