"""A runtime that raises, gives what is no vector, hangs or loses a thread: who fails, who does not, and who notices."""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.conftest import Golden
from tests.e2e.process import (
    MODEL,
    VERTEX_MODEL,
    assert_google_error,
    assert_openai_error,
    openai_vectors,
    wait_until,
)
from tests.faults.conftest import Faulty, StartFaulty

EMBEDDINGS = "/v1/embeddings"
GUILTY = "poison"
BROKEN = "1.5"  # seconds after which liveness fails


@pytest.fixture(scope="module")
def shared(launch_faulty: StartFaulty) -> Faulty:
    """For faults that leave nothing behind."""
    return launch_faulty("--stall-timeout", BROKEN)


@pytest.fixture
def server(shared: Faulty) -> Faulty:
    shared.mend()
    wait_until(lambda: shared.http.get("/readyz").status_code == 200, "the server to be as it was")
    return shared


def ask(server: Faulty, pool: ThreadPoolExecutor, texts: Sequence[str]) -> list[Future[httpx.Response]]:
    """Each text by a request of its own."""
    return [pool.submit(server.post, EMBEDDINGS, {"input": one}) for one in texts]


def in_flight(server: Faulty, count: int) -> None:
    wait_until(lambda: server.metric("embedserve_requests_in_flight", route=EMBEDDINGS) >= count, "requests in flight")


def assert_golden(replies: Sequence[httpx.Response], golden: Golden) -> None:
    assert [one.status_code for one in replies] == [200] * len(golden.texts)
    found = np.concatenate([openai_vectors(one) for one in replies])
    assert np.abs(found - golden.vectors).max() <= 1e-4


@pytest.mark.parametrize("kind", ["raise", "memory error", "nan", "infinity", "zero"])
def test_of_a_batch_only_the_guilty_text_fails(server: Faulty, golden: Golden, kind: str) -> None:
    token = server.token(GUILTY)
    with ThreadPoolExecutor(32) as pool:
        server.fault("hold")  # so that what comes meanwhile is packed together
        texts = ask(server, pool, golden.texts)
        guilty = ask(server, pool, [GUILTY])
        in_flight(server, len(golden.texts) + 1)
        server.fault(kind, token=token, rows=0)
        replies = [one.result() for one in texts]
    assert_golden(replies, golden)
    assert_openai_error(guilty[0].result(), 500, "server_error")
    assert "injected" not in guilty[0].result().text
    reason = "inference_failed" if kind in ("raise", "memory error") else "bad_vector"
    assert server.metric("embedserve_rejections_total", reason=reason) >= 1
    assert server.http.get("/readyz").json() == {"status": "ready"}


def test_what_fails_once_fails_nobody(server: Faulty, golden: Golden) -> None:
    before = server.metric("embedserve_failed_batches_total")
    server.fault("once")
    with ThreadPoolExecutor(16) as pool:
        assert_golden([one.result() for one in ask(server, pool, golden.texts)], golden)
    assert server.metric("embedserve_failed_batches_total") == before + 1


@pytest.mark.parametrize("kind", ["no room", "memory error"])
def test_a_batch_without_room_is_halved_until_it_has_it(server: Faulty, golden: Golden, kind: str) -> None:
    server.fault(kind, rows=2)
    assert np.abs(server.embed(golden.texts) - golden.vectors).max() <= 1e-4


def test_a_runtime_that_always_fails_takes_the_server_out_of_service_until_it_works(server: Faulty) -> None:
    server.fault("raise")
    assert_openai_error(server.post(EMBEDDINGS, {"input": "a"}), 500, "server_error")
    assert_google_error(server.post(VERTEX_MODEL, {"instances": [{"content": "a"}]}), 500, "INTERNAL")
    assert server.post("/embed", {"inputs": "a"}).status_code == 424
    wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail")
    assert server.http.get("/readyz").json() == {"status": "not ready", "failing": [MODEL]}
    assert server.http.get(f"/v2/models/{MODEL}/ready").status_code == 503
    assert server.metric("embedserve_failing", model=MODEL) == 1
    wait_until(lambda: server.http.get("/livez").status_code == 503, "liveness to fail")
    assert server.http.get("/livez").json()["status"] == "failing"
    server.mend()
    wait_until(lambda: server.http.get("/readyz").status_code == 200, "readiness without any request")
    assert server.http.get("/livez").status_code == 200
    assert server.metric("embedserve_failing", model=MODEL) == 0
    server.assert_well()


def test_exceptions_thrown_into_executors_end_none_of_them(server: Faulty, golden: Golden) -> None:
    for _ in range(5):
        server.fault("throw")
        with ThreadPoolExecutor(16) as pool:
            replies = [one.result() for one in ask(server, pool, golden.texts)]
        assert {one.status_code for one in replies} <= {200, 500}
    server.mend()
    with ThreadPoolExecutor(16) as pool:
        assert_golden([one.result() for one in ask(server, pool, golden.texts)], golden)
    assert server.http.get("/livez").status_code == 200


@pytest.mark.parametrize("kind", ["hang", "end thread"])
def test_what_never_ends_is_noticed_and_its_supervisor_starts_it_anew(
    launch_faulty: StartFaulty, golden: Golden, kind: str
) -> None:
    """The others are answered meanwhile, whoever waits for it gets 504, liveness fails, and SIGTERM ends it."""
    flags = ("--stall-timeout", BROKEN, "--drain-timeout", "1", "--executors", "2")
    server = launch_faulty(*flags)
    server.fault(kind, token=server.token(GUILTY))
    with ThreadPoolExecutor(16) as pool:
        guilty = pool.submit(server.post, EMBEDDINGS, {"input": GUILTY}, x_request_timeout_ms="3000")
        wait_until(lambda: server.metric("embedserve_running_batches") > 0, "the guilty text to run")
        assert_golden([one.result() for one in ask(server, pool, golden.texts)], golden)
        assert_openai_error(guilty.result(), 504, "server_error")
    wait_until(lambda: server.http.get("/livez").status_code == 503, "liveness to fail")
    assert server.http.get("/livez").json() == {"status": "stalled"}
    assert server.metric("embedserve_stalled_seconds") > float(BROKEN)
    assert server.http.get("/readyz").status_code == 503
    server.assert_well()
    server.signal(signal.SIGTERM)  # what a supervisor does then
    assert server.wait() == 0
    assert re.search(r"a batch that does not end", server.stderr())
    launch_faulty(*flags, port=server.port).assert_well()
