"""Several models in one process: the file, names, readiness, and loading and unloading while others are served."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from models.compile import compile_checkpoint
from tests.conftest import Golden, StartServer
from tests.e2e.process import (
    DIMENSIONS,
    MODEL,
    Server,
    add_pipe,
    assert_openai_error,
    cosines,
    full_windows,
    openai_vectors,
    run_command,
    wait_until,
)
from tests.models.tiny import HIDDEN, Tiny, dense_config

ADMIN = "admin-0123456789abcdef"
BY_ADMIN = {"authorization": f"Bearer {ADMIN}"}
OTHER = 20  # dimensions


def compiled(folder: Path, tiny: Tiny) -> Path:
    tiny.write(folder / "checkpoint")
    return compile_checkpoint(
        str(folder / "checkpoint"), cache_dir=folder, output=folder / "bundle", say=lambda _: None
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with vectors of HIDDEN numbers."""
    return compiled(tmp_path_factory.mktemp("tiny"), Tiny(saved={"prompts": {"query": "river "}}))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One with vectors of OTHER numbers."""
    return compiled(tmp_path_factory.mktemp("other"), Tiny(dense=dense_config("activation.Tanh", OTHER), seed=1))


def toml(folder: Path, text: str) -> str:
    path = folder / "models.toml"
    path.write_text(text)
    return str(path)


@pytest.fixture(scope="module")
def launch_file(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Server]:
    """launch_file(text of the file, *flags) → Server."""
    return lambda text, *flags, **options: launch(
        "--config", toml(tmp_path_factory.mktemp("file"), text), *flags, model=None, no_model=True, **options
    )


@pytest.fixture(scope="module")
def several(launch_file: Callable[..., Server], bundle: Path, tiny: Path) -> Server:
    return launch_file(
        f"""
        max_batch_tokens = 256
        token_ids = "reject"

        [[models]]
        model = "{bundle}"
        aliases = ["text-embedding-3-small"]

        [[models]]
        model = "{tiny}"
        name = "tiny"
        aliases = ["small", "org/tiny"]
        long_input = "reject"
        token_ids = "native"
        max_batch_tokens = 300
        max_queue_tokens = 50_000
        weight = 2
        default_prompt_name = "title"
        prompts = {{ title = "the mill " }}
        """
    )


def embed(server: Server, model: str | None, text: Any = "the river and the mill", **more: Any) -> httpx.Response:
    return server.post("/v1/embeddings", {"input": text, **({} if model is None else {"model": model}), **more})


def vectors(server: Server, model: str | None, text: Any = "the river and the mill", **more: Any) -> Any:
    reply = embed(server, model, text, **more)
    assert reply.status_code == 200, reply.text
    return openai_vectors(reply)


# --- the file -------------------------------------------------------------------------------------------------


def test_each_name_has_its_own_model(several: Server, golden: Golden) -> None:
    for name in (None, MODEL, f"sentence-transformers/{MODEL}", "text-embedding-3-small"):
        assert np.abs(vectors(several, name, golden.texts[:8]) - golden.vectors[:8]).max() <= 1e-4
    for name in ("tiny", "small", "org/tiny"):
        assert vectors(several, name).shape == (1, HIDDEN)
    assert_openai_error(embed(several, "medium"), 404)


def test_each_model_is_told_what_its_table_says_and_the_rest_by_the_file(several: Server) -> None:
    assert embed(several, "tiny", "river " * 60).status_code == 400
    assert embed(several, None, "river " * 600).status_code == 200
    assert vectors(several, "tiny", [[30, 31]]).shape == (1, HIDDEN)
    assert "not token ids" in assert_openai_error(embed(several, MODEL, [[30, 31]]), 400)["detail"]
    chosen = {line["model"]: line for line in several.logged() if line["message"] == "batches"}
    assert {name: line["max_batch_tokens"] for name, line in chosen.items()} == {MODEL: 256, "tiny": 300}


def test_teis_routes_follow_the_models_own_table(several: Server) -> None:
    """Its name for the limit of the queue is `max_concurrent_requests`, as its document says."""
    assert several.post("/embed", {"inputs": [30, 31], "model": "tiny"}).status_code == 200
    refused = several.post("/embed", {"inputs": [30, 31], "model": MODEL})
    assert refused.status_code == 422
    assert "not token ids" in refused.json()["error"]
    own, common = (several.http.get("/info", params={"model": name}).json() for name in ("tiny", MODEL))
    assert (own["auto_truncate"], own["max_batch_tokens"], own["max_concurrent_requests"]) == (False, 300, 50_000)
    assert (common["auto_truncate"], common["max_batch_tokens"]) == (True, 256)


def test_prompts_of_the_table_stand_beside_the_models_own(several: Server) -> None:
    alone = vectors(several, "tiny", "river", prompt_name="title")
    assert cosines(alone, vectors(several, "tiny", "river")).min() >= 0.999999
    assert cosines(alone, vectors(several, "tiny", "river", prompt_name="query")).max() < 0.9999
    assert embed(several, MODEL, "river", prompt_name="title").status_code == 400


def test_lists_readiness_and_metrics_are_of_each_model(several: Server) -> None:
    assert [one["id"] for one in several.http.get("/v1/models").json()["data"]] == [MODEL, "tiny"]
    assert several.http.get("/v2/models").json() == {"models": [MODEL, "tiny"]}
    assert several.http.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert several.http.get("/v2/models/org%2Ftiny/ready").json() == {"name": "tiny", "ready": True}
    assert several.http.get("/v2/models/medium/ready").status_code == 404
    assert several.http.get("/readyz").status_code == 200
    for name in (MODEL, "tiny"):
        assert several.metric("embedserve_model_info", model=name) == 1
        before = several.metric("embedserve_inputs_total", model=name)
        vectors(several, name)
        assert several.metric("embedserve_inputs_total", model=name) == before + 1
    assert "Beside it: tiny" in several.stdout()


def test_without_admin_keys_there_are_no_routes_to_load_by(several: Server) -> None:
    for path in ("index", "models/tiny/load", "models/tiny/unload"):
        assert several.post(f"/v2/repository/{path}", {}).status_code == 404
    assert "/v2/repository/index" not in several.http.get("/openapi.json").json()["paths"]


def test_both_keep_answering_rightly_under_load(several: Server, golden: Golden) -> None:
    """One with ten times the clients of the other; the long texts of one beside the short ones of the other."""
    expected = vectors(several, "tiny")

    def ask(number: int) -> None:
        if number % 11 == 0:
            assert cosines(vectors(several, "tiny"), expected).min() >= 0.999999
            return
        text = number % len(golden.texts)
        found = vectors(several, MODEL, [golden.texts[text], *full_windows(number % 3 == 0, number)])
        assert np.abs(found[0] - golden.vectors[text]).max() <= 1e-4

    with ThreadPoolExecutor(22) as pool:
        list(pool.map(ask, range(132)))


def test_models_that_do_not_go_together_are_refused(tmp_path: Path, tiny: Path, other: Path) -> None:
    text = f'[[models]]\nmodel = "{tiny}"\n[[models]]\nmodel = "{other}"\n'  # both made from folders of one name
    done = run_command("serve", "--port", "0", "--config", toml(tmp_path, text))
    assert done.returncode == 1
    assert "'checkpoint' is claimed by two models" in done.stderr.decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[models]\nmodel = "a"\n', "each below a line [[models]]"),
        ("models = []\n", "models is empty"),
        (
            '[[models]]\nmodel = "a"\nname = "x"\n[[models]]\nmodel = "b"\naliases = ["x"]\n',
            "models.toml, line 6: the name 'x' is that of another model as well",
        ),
    ],
)
def test_files_that_say_something_else_are_refused_with_the_place(tmp_path: Path, text: str, said: str) -> None:
    done = run_command("serve", "--port", "0", "--config", toml(tmp_path, text))
    assert done.returncode == 1
    assert said in done.stderr.decode()


def test_what_nobody_can_load_is_said(launch_file: Callable[..., Server], tiny: Path) -> None:
    later = f'[[models]]\nmodel = "{tiny}"\nname = "later"\nload_at_start = false\n'
    server = launch_file(f'[[models]]\nmodel = "{tiny}"\nname = "now"\n{later}')
    assert "load_at_start = false is of no use without admin_keys" in server.stderr()
    (batches,) = (line for line in server.logged() if line["message"] == "batches")
    assert batches["executors_from"] == "device"


def test_one_that_cannot_be_loaded_fails_the_start_and_is_named(tmp_path: Path, tiny: Path, other: Path) -> None:
    broken = shutil.copytree(other, tmp_path / "broken")
    (broken / "model.onnx").write_bytes(b"no graph")
    text = f'[[models]]\nmodel = "{tiny}"\nname = "good"\n[[models]]\nmodel = "{broken}"\nname = "bad"\n'
    done = run_command("serve", "--port", "0", "--config", toml(tmp_path, text))
    assert done.returncode == 1
    assert "bad: " in done.stderr.decode()
    assert "model.onnx is corrupt" in done.stderr.decode()


def test_a_device_that_cannot_be_had_is_said_of_the_model_that_wants_it(tmp_path: Path, tiny: Path) -> None:
    text = f'[[models]]\nmodel = "{tiny}"\nname = "good"\n[[models]]\nmodel = "{tiny}"\nname = "gpu"\ndevice = "cuda"\n'
    done = run_command("serve", "--port", "0", "--config", toml(tmp_path, text))
    assert done.returncode == 1
    assert "embedserve: gpu: the bundle is compiled for cpu" in done.stderr.decode()


def test_models_of_one_checkpoint_have_names_of_their_own_and_no_common_one(
    launch_file: Callable[..., Server], tiny: Path
) -> None:
    server = launch_file(f'[[models]]\nmodel = "{tiny}"\nname = "a"\n[[models]]\nmodel = "{tiny}"\nname = "b"\n')
    assert cosines(vectors(server, "a"), vectors(server, "b")).min() >= 0.999999
    assert embed(server, "checkpoint").status_code == 404


def test_compile_and_check_go_through_the_file(tmp_path: Path) -> None:
    for number in range(2):
        Tiny(seed=number).write(tmp_path / f"checkpoint{number}")
    file = toml(tmp_path, "".join(f'[[models]]\nmodel = "{tmp_path}/checkpoint{n}"\n' for n in range(2)))
    env = {"EMBEDSERVE_CACHE_DIR": str(tmp_path / "cache")}
    missing = run_command("check", "--config", file, env=env)
    assert missing.returncode == 1
    assert "not compiled yet" in missing.stderr.decode()
    done = run_command("compile", "--config", file, env=env)
    assert done.returncode == 0, done.stderr
    folders = done.stdout.decode().split()
    assert [Path(one, "bundle.json").is_file() for one in folders] == [True, True]
    checked = run_command("check", "--config", file, env=env)
    assert checked.returncode == 0, checked.stderr
    assert run_command("compile").returncode == 2
    assert run_command("check").returncode == 2


def test_a_path_that_is_nowhere_is_refused_with_the_places_looked_at(tmp_path: Path) -> None:
    (elsewhere := tmp_path / "elsewhere").mkdir()
    file = toml(tmp_path, '[[models]]\nmodel = "./nowhere"\nname = "a"\n')
    for name in ("check", "serve", "compile"):
        done = run_command(name, "--config", file, cwd=elsewhere, env={"EMBEDSERVE_CACHE_DIR": str(tmp_path / "cache")})
        assert done.returncode == 1
        assert f"looked in {tmp_path} and {elsewhere}" in done.stderr.decode()
    file = toml(tmp_path, '[[models]]\nmodel = "organisation/nowhere"\nname = "a"\n')
    done = run_command("check", "--config", file, env={"EMBEDSERVE_CACHE_DIR": str(tmp_path / "cache")})
    assert (
        "organisation/nowhere is no path here, and the model of that name is not compiled yet" in done.stderr.decode()
    )


@pytest.mark.parametrize(
    "flag",
    [
        ("--target", "cuda"),
        ("--target", "cpu"),
        ("--route", "onnx"),
        ("--format", "glove"),
        ("--pooling", "mean"),
        ("--output", "x"),
    ],
)
def test_what_is_for_one_source_is_refused_with_a_file_of_models(
    tmp_path: Path, tiny: Path, flag: tuple[str, str]
) -> None:
    file = toml(tmp_path, f'[[models]]\nmodel = "{tiny}"\n')
    done = run_command("compile", "--config", file, *flag)
    assert done.returncode == 1
    assert f"{flag[0]} with --config: that is for one SOURCE" in done.stderr.decode()


@pytest.mark.parametrize("command", ["compile", "check"])
def test_one_of_them_and_a_file_of_models_is_a_wrong_command_line(tmp_path: Path, tiny: Path, command: str) -> None:
    file = toml(tmp_path, f'[[models]]\nmodel = "{tiny}"\n')
    done = run_command(command, tiny, "--config", file)
    assert done.returncode == 2
    assert "with --config, not both" in done.stderr.decode()


def test_fp16_on_a_cpu_is_refused_in_words_of_serve(tmp_path: Path) -> None:
    Tiny().write(tmp_path / "checkpoint")
    done = run_command("serve", tmp_path / "checkpoint", "--device", "cpu", "--precision", "fp16")
    assert done.returncode == 1
    assert "for serve: --device cuda" in done.stderr.decode()


# --- at run time ----------------------------------------------------------------------------------------------


@pytest.fixture
def admin(start_server: StartServer, tmp_path: Path, tiny: Path, other: Path) -> Server:
    """Two models, one more for later, and a folder of bundles; the bundles are copies that a test may change."""
    for name in ("swap", "later"):
        shutil.copytree(tiny, tmp_path / name)
    (tmp_path / "shelf" / "not-a-bundle").mkdir(parents=True)
    shutil.copytree(other, tmp_path / "shelf" / "extra")
    text = f"""
        [[models]]
        model = "{tiny}"
        name = "stays"
        [[models]]
        model = "{tmp_path}/swap"
        name = "swap"
        aliases = ["alias"]
        [[models]]
        model = "{tmp_path}/later"
        name = "later"
        load_at_start = false
        """
    return start_server(
        "--config", toml(tmp_path, text), "--model-dir", str(tmp_path / "shelf"), no_model=True,
        env={"EMBEDSERVE_ADMIN_KEYS": ADMIN},
    )  # fmt: skip


def manage(server: Server, path: str, body: Any = None, headers: dict[str, str] | None = None) -> httpx.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return server.http.post(f"/v2/repository/{path}", content=content, headers=BY_ADMIN if headers is None else headers)


def listed(server: Server) -> dict[str, str]:
    found = manage(server, "index").json()
    assert all(set(one) == {"name", "version", "state", "reason"} for one in found)
    return {one["name"]: one["state"] for one in found}


def put(source: Path, target: Path) -> None:
    """In place of what lies there, as a rename would."""
    fresh = target.with_name(f"{target.name}-fresh")
    shutil.copytree(source, fresh)
    shutil.rmtree(target)
    fresh.rename(target)


def test_only_the_admins_key_opens_the_routes(start_server: StartServer, tiny: Path) -> None:
    env = {"EMBEDSERVE_ADMIN_KEYS": ADMIN, "EMBEDSERVE_API_KEYS": "client-0123456789"}
    server = start_server("--served-model-name", "one", model=tiny, env=env)
    for path in ("index", "models/one/unload", "models/one/load"):
        for headers in ({}, {"authorization": "Bearer client-0123456789"}, {"authorization": "Bearer admin"}):
            reply = manage(server, path, headers=headers)
            assert (reply.status_code, list(reply.json())) == (401, ["error"])
    assert listed(server) == {"one": "READY"}
    assert embed(server, "one").status_code == 401
    same = run_command("serve", str(tiny), env={"EMBEDSERVE_ADMIN_KEYS": "a-key", "EMBEDSERVE_API_KEYS": "b,a-key"})
    assert same.returncode == 1
    assert "admin key is an API key" in same.stderr.decode()


def test_load_and_unload(admin: Server) -> None:
    assert listed(admin) == {"stays": "READY", "swap": "READY", "later": "UNAVAILABLE", "extra": "UNAVAILABLE"}
    assert_openai_error(embed(admin, "later"), 404)
    assert admin.http.get("/v2/models/later/ready").status_code == 404
    for name, dimensions in (("later", HIDDEN), ("extra", OTHER)):
        assert manage(admin, f"models/{name}/load", {}).status_code == 200
        assert vectors(admin, name).shape == (1, dimensions)
        assert admin.http.get(f"/v2/models/{name}/ready").json() == {"name": name, "ready": True}
    assert manage(admin, "models/swap/unload", {"parameters": {"unload_dependents": False}}).status_code == 200
    for name in ("swap", "alias"):
        assert_openai_error(embed(admin, name), 404)
    assert admin.http.get("/v2/models/swap/ready").status_code == 404
    assert [one["id"] for one in admin.http.get("/v1/models").json()["data"]] == ["stays", "later", "extra"]
    assert admin.http.get("/readyz").status_code == 200
    wait_until(lambda: 'model="swap' not in admin.http.get("/metrics").text, "its metrics to go")
    assert listed(admin)["swap"] == "UNAVAILABLE"
    assert [one["name"] for one in manage(admin, "index", {"ready": True}).json()] == ["stays", "later", "extra"]
    assert manage(admin, "models/swap/load").status_code == 200
    assert vectors(admin, "alias").shape == (1, HIDDEN)
    assert admin.metric("embedserve_inputs_total", model="swap") == 1


def test_the_default_that_is_unloaded_is_not_answered_by_another(admin: Server) -> None:
    assert vectors(admin, None).shape == (1, HIDDEN)
    assert manage(admin, "models/stays/unload").status_code == 200
    assert_openai_error(embed(admin, None), 404)
    assert vectors(admin, "swap").shape == (1, HIDDEN)
    assert manage(admin, "models/stays/load").status_code == 200
    assert vectors(admin, None).shape == (1, HIDDEN)


def test_names_from_the_network_never_become_paths(admin: Server) -> None:
    for name in (
        *("no-such-model", "alias", "not-a-bundle", "%2e%2e", "%2e%2e%2fswap", "%2e%2fextra", "shelf/extra", "extra/"),
        *("%2fetc%2fpasswd", "extra%00", "EXTRA", "%2e", "%20extra"),
    ):
        for what in ("load", "unload"):
            reply = manage(admin, f"models/{name}/{what}")
            assert reply.status_code == 404, (name, reply.text)
    assert listed(admin) == {"stays": "READY", "swap": "READY", "later": "UNAVAILABLE", "extra": "UNAVAILABLE"}


def test_what_clients_may_send_to_triton_is_refused(admin: Server) -> None:
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AAAA"}):
        reply = manage(admin, "models/swap/load", {"parameters": parameters})
        assert reply.status_code == 400
        assert next(iter(parameters)) in reply.json()["error"]
    assert manage(admin, "models/swap/load", ["no"]).status_code == 400


def test_a_load_that_fails_leaves_the_old_one_and_says_why(admin: Server, tmp_path: Path) -> None:
    before = vectors(admin, "swap")
    (tmp_path / "swap" / "model.onnx").write_bytes(b"no graph")
    reply = manage(admin, "models/swap/load")
    assert reply.status_code == 400
    assert "model.onnx is corrupt" in reply.json()["error"]
    assert cosines(vectors(admin, "swap"), before).min() >= 0.999999
    reasons = {one["name"]: one["reason"] for one in manage(admin, "index").json()}
    assert "corrupt" in reasons["swap"]
    shutil.rmtree(tmp_path / "later")
    assert manage(admin, "models/later/load").status_code == 400
    assert_openai_error(embed(admin, "later"), 404)
    assert vectors(admin, "stays").shape == (1, HIDDEN)


@contextmanager
def asking(server: Server, name: str, clients: int = 6) -> Iterator[list[tuple[int, int]]]:
    """Clients that ask without a pause meanwhile; gives each answer's status and dimensions."""
    answers: list[tuple[int, int]] = []
    over = threading.Event()

    def ask(number: int) -> None:
        texts = ["the river and the mill", "abc " * number, f"a {number}"]
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as http:
            while not over.is_set():
                reply = http.post("/v1/embeddings", json={"model": name, "input": texts})
                ok = reply.status_code == 200
                answers.append((reply.status_code, openai_vectors(reply).shape[1] if ok else 0))

    with ThreadPoolExecutor(clients) as pool:
        sent = [pool.submit(ask, number) for number in range(clients)]
        try:
            yield answers
        finally:
            over.set()
        for one in sent:
            one.result()


def test_no_request_is_lost_while_models_are_swapped(admin: Server, tmp_path: Path, tiny: Path, other: Path) -> None:
    """The name changes its dimensions with every load; another name keeps its own."""
    with asking(admin, "swap") as swapped, asking(admin, "stays", 2) as kept:
        for number in range(6):
            put((other, tiny)[number % 2], tmp_path / "swap")
            assert manage(admin, "models/swap/load").status_code == 200
            assert vectors(admin, "swap").shape == (1, (OTHER, HIDDEN)[number % 2])
    assert {status for status, _ in swapped + kept} == {200}
    assert {dimensions for _, dimensions in swapped} == {OTHER, HIDDEN}
    assert {dimensions for _, dimensions in kept} == {HIDDEN}
    wait_until(lambda: admin.stderr().count('"let go"') >= 5, "the lines that say so")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux' /proc")
def test_the_memory_of_a_model_that_was_replaced_is_given_back(
    start_server: StartServer, bundle: Path, tmp_path: Path
) -> None:
    """Without that it was 114 MB more after three times."""
    file = toml(tmp_path, f'[[models]]\nmodel = "{bundle}"\n')
    server = start_server("--config", file, no_model=True, env={"EMBEDSERVE_ADMIN_KEYS": ADMIN})

    def megabytes() -> float:
        pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    vectors(server, MODEL)
    before = megabytes()
    for number in range(1, 4):
        assert manage(server, f"models/{MODEL}/load").status_code == 200
        vectors(server, MODEL)
        wait_until(lambda n=number: server.stderr().count('"let go"') == n, "the old one to go")  # type: ignore[misc]
    assert megabytes() - before < 60


def test_requests_in_flight_finish_on_the_model_that_leaves(
    start_server: StartServer, bundle: Path, tmp_path: Path
) -> None:
    file = toml(tmp_path, f'executors = 1\n[[models]]\nmodel = "{bundle}"\n')
    server = start_server("--config", file, no_model=True, env={"EMBEDSERVE_ADMIN_KEYS": ADMIN})
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(vectors, server, MODEL, full_windows(12))
        wait_until(lambda: server.metric("embedserve_running_batches", model=MODEL) > 0, "work in flight")
        assert manage(server, f"models/{MODEL}/unload").status_code == 200
        assert listed(server) == {MODEL: "UNLOADING"}
        assert_openai_error(embed(server, MODEL), 404)
        assert server.http.get("/readyz").status_code == 503
        assert slow.result().shape == (12, DIMENSIONS)
    wait_until(lambda: listed(server) == {MODEL: "UNAVAILABLE"}, "the model to go")


def test_loads_of_one_name_at_once(admin: Server) -> None:
    """All of them succeed, and those that wait share one load."""
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: manage(admin, "models/later/load").status_code, range(8)))
    assert replies == [200] * 8
    assert vectors(admin, "later").shape == (1, HIDDEN)

    def loads() -> int:
        return sum(line["message"] == "loaded" and line["model"] == "later" for line in admin.logged())

    wait_until(lambda: loads() > 0, "a line that says so")
    assert loads() < 8


def start_slow_load(server: Server, tmp_path: Path, pool: ThreadPoolExecutor) -> Any:
    """Of `later`, whose files are complete when a test writes into a pipe."""
    pipe, content = add_pipe(tmp_path / "later")
    sent = pool.submit(manage, server, "models/later/load")
    wait_until(lambda: listed(server)["later"] == "LOADING", "the load to begin")
    return sent, lambda: pipe.write_bytes(content)


def test_while_a_model_is_loading(admin: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent, let_go = start_slow_load(admin, tmp_path, pool)
        reply = embed(admin, "later")
        assert_openai_error(reply, 503, "service_unavailable_error")
        assert int(reply.headers["retry-after"]) >= 1
        reply = admin.http.get("/v2/models/later/ready")
        assert (reply.status_code, reply.json()) == (503, {"name": "later", "ready": False})
        assert int(reply.headers["retry-after"]) >= 1
        assert vectors(admin, "stays").shape == (1, HIDDEN)
        assert admin.http.get("/readyz").status_code == 200
        let_go()
        assert sent.result().status_code == 200
    assert vectors(admin, "later").shape == (1, HIDDEN)


def test_a_signal_while_a_model_is_loading_ends_the_process(admin: Server, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        sent, _ = start_slow_load(admin, tmp_path, pool)
        admin.signal(signal.SIGTERM)
        assert admin.process.wait(timeout=15) == 0  # long before requests in flight are given up
        assert sent.exception() is not None or sent.result().status_code == 503


def test_nothing_is_loaded_or_unloaded_while_draining(start_server: StartServer, tiny: Path) -> None:
    env = {"EMBEDSERVE_ADMIN_KEYS": ADMIN}
    server = start_server("--drain-grace", "20", "--served-model-name", "one", model=tiny, env=env)
    server.signal(signal.SIGTERM)
    wait_until(lambda: server.http.get("/readyz").status_code == 503, "readiness to fail")
    for what in ("load", "unload"):
        reply = manage(server, f"models/one/{what}")
        assert reply.status_code == 503
        assert int(reply.headers["retry-after"]) >= 1
    assert vectors(server, "one").shape == (1, HIDDEN)
    server.process.kill()
