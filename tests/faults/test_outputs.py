"""The runtime's faults with a model of each kind of output, side by side; and a load that its self-check refuses."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.compile import compile_checkpoint
from tests.e2e.process import wait_until
from tests.faults.conftest import MAKE, Faulty, StartFaulty
from tests.models.tiny import VOCABULARY

ROUTE: dict[str, tuple[str, Callable[[str], dict[str, Any]]]] = {
    "embedding": ("/v1/embeddings", lambda text: {"input": text}),
    "score": ("/v1/rerank", lambda text: {"query": "a mill", "documents": [text]}),
    "sparse": ("/embed_sparse", lambda text: {"inputs": text}),
    "tokens": ("/v1/multi-vector", lambda text: {"input": text}),
}
GOOD = ["a b c", "d e", "f g h i"]
GUILTY = "river"
ADMIN = "admin-0123456789abcdef"


@pytest.fixture(scope="module")
def shared(launch_faulty: StartFaulty, tmp_path_factory: pytest.TempPathFactory) -> Faulty:
    """A model of each."""
    root = tmp_path_factory.mktemp("outputs")
    lines = []
    for task in ROUTE:
        source = MAKE[task](root / f"{task}-checkpoint")
        compile_checkpoint(str(source), cache_dir=root, output=root / task, say=lambda _: None)
        lines.append(f'[[models]]\nmodel = "{root / task}"\nname = "{task}"\n')
    (root / "models.toml").write_text("".join(lines))
    (root / "admins").write_text(ADMIN)
    flags = ("--config", str(root / "models.toml"), "--admin-key-file", str(root / "admins"), "--stall-timeout", "2")
    return launch_faulty(*flags, model=None)


@pytest.fixture
def server(shared: Faulty) -> Faulty:
    shared.mend()
    wait_until(lambda: shared.http.get("/readyz").json() == {"status": "ready"}, "the server to be as it was")
    return shared


def ask(server: Faulty, task: str, text: str) -> httpx.Response:
    """Of the model of that task."""
    path, body = ROUTE[task]
    return server.post(path, {"model": task, **body(text)})


def answers(server: Faulty, task: str) -> list[Any]:
    """To the good texts, one after the other."""
    return [numbers(ask(server, task, text)) for text in GOOD]


def load(server: Faulty, name: str) -> httpx.Response:
    """Anew, of that name."""
    return server.http.post(f"/v2/repository/models/{name}/load", headers={"authorization": f"Bearer {ADMIN}"})


def numbers(reply: httpx.Response) -> Any:
    """All there are in a reply that must be one of success."""
    assert reply.status_code == 200, reply.text
    shown = re.sub(r'"id": ?"[^"]*"', "", reply.text)
    return np.array(re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", shown), float)


@pytest.mark.parametrize("kind", ["raise", "nan"])
@pytest.mark.parametrize("task", ROUTE)
def test_of_a_batch_only_the_guilty_text_fails(server: Faulty, task: str, kind: str) -> None:
    expected = answers(server, task)
    path, _ = ROUTE[task]
    with ThreadPoolExecutor(len(GOOD) + 1) as pool:
        server.fault("hold")  # so that what comes meanwhile is packed together
        sent = [pool.submit(ask, server, task, text) for text in [*GOOD, GUILTY]]
        wait_until(lambda: server.metric("embedserve_requests_in_flight", route=path) > len(GOOD), "requests in flight")
        server.fault(kind, token=VOCABULARY[GUILTY])
        *good, guilty = [one.result() for one in sent]
    assert guilty.status_code in (424, 500)
    assert "injected" not in guilty.text
    for found, right in zip(good, expected, strict=True):
        np.testing.assert_allclose(numbers(found), right, atol=1e-4)
    assert server.http.get("/readyz").json() == {"status": "ready"}


@pytest.mark.parametrize("task", ROUTE)
def test_a_model_that_always_fails_is_named_and_the_others_go_on(server: Faulty, task: str) -> None:
    before = {one: answers(server, one) for one in ROUTE}
    server.fault("raise", model=f"/{task}/")
    assert ask(server, task, GOOD[0]).status_code in (424, 500)
    wait_until(lambda: server.http.get("/readyz").json().get("failing") == [task], "readiness to name it")
    assert server.http.get("/readyz").status_code == server.http.get("/livez").status_code == 200
    assert server.http.get(f"/v2/models/{task}/ready").status_code == 503
    for one in set(ROUTE) - {task}:
        for found, right in zip(answers(server, one), before[one], strict=True):
            np.testing.assert_allclose(found, right, atol=1e-4)
    server.mend()
    wait_until(lambda: server.http.get("/readyz").json() == {"status": "ready"}, "readiness without any request")
    assert ask(server, task, GOOD[0]).status_code == 200


@pytest.mark.parametrize("task", ROUTE)
def test_a_load_whose_golden_texts_come_out_wrong_leaves_the_old_model(server: Faulty, task: str) -> None:
    before = answers(server, task)

    server.fault("skew", model=f"/{task}/")
    refused = load(server, task)
    server.mend()
    assert refused.status_code >= 400
    assert "wrong vectors on this machine" in refused.text
    for found, right in zip(answers(server, task), before, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4)
    assert load(server, task).status_code == 200


def test_a_load_whose_golden_texts_hang_fails_and_takes_nobody_with_it(server: Faulty) -> None:
    """A restart would take all the others' requests with it, and would not help who loads the model again."""
    before = answers(server, "embedding")
    server.fault("hang", model="/sparse/")
    for why in ("golden texts", "still hangs"):
        refused = load(server, "sparse")
        assert refused.status_code == 400
        assert why in refused.text
        assert "restart the server" in refused.text
    assert server.http.get("/livez").status_code == server.http.get("/readyz").status_code == 200
    for found, right in zip(answers(server, "embedding"), before, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4)
    server.mend()
    wait_until(lambda: load(server, "sparse").status_code == 200, "the thread to end, and another load")
    assert ask(server, "sparse", GOOD[0]).status_code == 200


def test_a_load_that_hangs_keeps_no_process_from_ending(launch_faulty: StartFaulty, tmp_path: Path) -> None:
    key = tmp_path / "admins"
    key.write_text(ADMIN)
    server = launch_faulty("--admin-key-file", str(key), "--stall-timeout", "2", "--served-model-name", "mine")
    server.fault("hang")
    assert "golden texts" in load(server, "mine").text
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
