"""What keeps the server from starting is said in one line, with the remedy in the next, and no traceback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.conftest import MakeBundle, StartServer, link
from tests.e2e.process import MODEL, Server, clean_environment, command, run_command


def assert_explained(done: subprocess.CompletedProcess[bytes], *words: str, status: int = 1) -> None:
    text = done.stderr.decode()
    assert done.returncode == status, text
    assert "Traceback" not in text
    for word in words:
        assert word in text
    if status == 1:
        reason, remedy = text.strip().splitlines()[-2:]
        assert reason.startswith("embedserve: ")
        assert remedy.startswith("  → ")
        assert len(remedy) > len("  → ")
    assert b"is ready" not in done.stdout


def flip(path: Path, position: int) -> None:
    """Changes one bit of a file that may be a hard link."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json", "golden.json"])
def test_corrupt_file(make_bundle: MakeBundle, name: str) -> None:
    folder = make_bundle()
    flip(folder / name, 1000)
    assert_explained(run_command("serve", folder, "--port", "0"), name, "is corrupt", "compile")


def test_missing_file(make_bundle: MakeBundle) -> None:
    folder = make_bundle()
    (folder / "tokenizer.json").unlink()
    assert_explained(run_command("serve", folder, "--port", "0"), "tokenizer.json", "cannot be read")


def test_a_bundle_of_token_vectors_that_does_not_say_how_it_reads(make_bundle: MakeBundle) -> None:
    assert_explained(run_command("serve", make_bundle(task="tokens"), "--port", "0"), "late_interaction is missing")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"{}", b"[]", b"\xff", b'{"format": 99}', b"null"],
)
def test_bad_bundle_json(make_bundle: MakeBundle, content: bytes) -> None:
    folder = make_bundle()
    (folder / "bundle.json").write_bytes(content)
    assert_explained(run_command("serve", folder, "--port", "0"), "bundle.json", "not a bundle of format 1")


def test_bundle_json_that_does_not_fit_the_graph(make_bundle: MakeBundle) -> None:
    folder = make_bundle(inputs=["input_ids", "no_such_input"])
    assert_explained(run_command("serve", folder, "--port", "0"))


def test_folder_that_is_neither_bundle_nor_checkpoint(tmp_path: Path) -> None:
    assert_explained(run_command("serve", tmp_path, "--port", "0"))


def test_no_such_model() -> None:
    assert_explained(run_command("serve", "no-such-model", "--port", "0"), "no-such-model", "neither a folder")


def test_port_in_use(bundle: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = run_command("serve", bundle, "--port", str(port))
    assert_explained(done, f"127.0.0.1:{port}", "--port")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("name", ["golden.json", "tokenizer.json"])
def test_what_else_is_wrong_is_said_at_once_where_opening_the_model_would_hang(
    make_bundle: MakeBundle, name: str
) -> None:
    folder = make_bundle()
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        assert_explained(run_command("serve", folder, "--port", str(port)), "--port")
    assert_explained(run_command("serve", folder, "--port", "0", "--api-key-file", folder / "no-keys"), "no-keys")


def test_port_of_another_server_of_ours(server: Server, bundle: Path) -> None:
    assert_explained(run_command("serve", bundle, "--port", str(server.port)), "--port")
    server.assert_well()


def test_no_such_host(bundle: Path) -> None:
    assert_explained(run_command("serve", bundle, "--host", "192.0.2.1", "--port", "0"), "192.0.2.1", "listen")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "http"),
        ("port", "65536"),
        ("port", "-1"),
        ("max_batch_tokens", "0"),
        ("executors", "0"),
        ("executors", "many"),
        ("long_input", "drop"),
        ("token_ids", "gpt2"),
        ("request_timeout", "0"),
        ("request_timeout", "nan"),
        ("log_level", "loud"),
        ("predict_route", "no-slash"),
        ("health_route", "no-slash"),
    ],
)
def test_bad_value(bundle: Path, name: str, value: str) -> None:
    env = {f"EMBEDSERVE_{name.upper()}": value}
    flag = f"--{name.replace('_', '-')}"
    from_env = run_command("serve", bundle, *(() if name == "port" else ("--port", "0")), env=env)
    assert_explained(from_env, name, flag, f"EMBEDSERVE_{name.upper()}")
    assert_explained(run_command("serve", bundle, f"{flag}={value}"), name, flag)


def test_a_variable_that_is_not_json_is_named(bundle: Path) -> None:
    """It was called a settings file that is not TOML."""
    done = run_command("serve", bundle, "--port", "0", env={"EMBEDSERVE_MODELS": "x{"})
    assert_explained(done, '"models"', "JSON", "EMBEDSERVE_MODELS")
    assert b"TOML" not in done.stderr


def test_bad_value_is_not_printed_when_it_may_be_a_secret(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('api_keys = [{ key = "canary-secret" }]\n', "utf-8")
    done = run_command("serve", bundle, "--config", file)
    assert_explained(done, "api_keys")
    assert b"canary-secret" not in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("prot = 8080\n", ["prot", "no setting"]),
        ("[server]\nport = 1\n", ["server", "no setting"]),
        ("port = \n", ["TOML"]),
        ("port = 'x'\n", ["port"]),
        ("\x00", ["TOML"]),
    ],
)
def test_bad_file(bundle: Path, tmp_path: Path, content: str, words: list[str]) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(content, "utf-8")
    assert_explained(run_command("serve", bundle, "--config", file), *words)


def test_file_that_is_not_utf_8(bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"model = '\xff'\n")
    assert_explained(run_command("serve", bundle, "--config", file), "settings.toml")


def test_missing_file_of_settings(bundle: Path, tmp_path: Path) -> None:
    assert_explained(run_command("serve", bundle, "--config", tmp_path / "none.toml"), "none.toml", "--config")
    env = {"EMBEDSERVE_CONFIG": str(tmp_path)}
    assert_explained(run_command("serve", bundle, env=env), str(tmp_path), "EMBEDSERVE_CONFIG")


@pytest.mark.parametrize("arguments", [[], ["dance"], ["serve", "--no-such-flag", "1"], ["serve", "a", "b"], ["check"]])
def test_wrong_command_line(arguments: list[str]) -> None:
    assert_explained(run_command(*arguments), "usage: embedserve", status=2)


def test_settings_file(start_server: StartServer, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        'port = 0\nserved_model_name = "from-file"\nmodel_aliases = ["a", "b,c"]\nmax_inputs = 3\nmax_instances = 4\n'
        'api_keys = ["from-file"]\n',
        "utf-8",
    )
    env = {"EMBEDSERVE_MAX_INPUTS": "2", "EMBEDSERVE_MAX_INSTANCES": "5"}
    server = start_server("--config", str(file), "--max-instances", "6", env=env, port=None)
    key = {"api-key": "from-file"}
    assert server.http.get("/v1/models", headers=key).json()["data"][0]["id"] == "from-file"
    for name, inputs, status in [("a", 2, 200), ("b,c", 2, 200), ("from-file", 3, 400)]:
        body = {"model": name, "input": ["x"] * inputs}
        assert server.http.post("/v1/embeddings", json=body, headers=key).status_code == status
    path = "/v1/projects/p/locations/l/endpoints/1:predict"
    for instances, status in [(6, 200), (7, 400)]:
        several = {"instances": [{"content": "x"}] * instances}
        assert server.http.post(path, json=several, headers=key).status_code == status


def test_model_by_its_name_from_the_cache(bundle: Path, start_server: StartServer) -> None:
    """`bundle` made sure that it is there."""
    assert bundle.is_dir()
    server = start_server(model=Path("all-MiniLM-L6-v2"))
    server.assert_well()


def test_moved_bundle(bundle: Path, start_server: StartServer, tmp_path: Path) -> None:
    moved = tmp_path / "with a space and ü"
    shutil.copytree(bundle, moved)
    start_server(model=moved).assert_well()


@pytest.mark.parametrize("host", ["localhost", "::1", "0.0.0.0"])
def test_hosts(start_server: StartServer, host: str) -> None:
    if host == "::1":
        try:
            with socket.socket(socket.AF_INET6) as probe:
                probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
    server = start_server("--host", host)
    shown = {"::1": "http://[::1]:"}.get(host, "http://")
    assert f"ready at {shown}" in server.stdout()
    if host != "::1":
        server.assert_well()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux' /proc")
def test_the_model_is_opened_while_the_rest_is_imported(bundle: Path, tmp_path: Path) -> None:
    """A package that only the pages import waits for the weights, and says so by its exit status."""
    (tmp_path / "fastapi_offline.py").write_text(
        "import os, time\n"
        "for _ in range(1000):\n"
        "    if 'model.onnx.data' in open('/proc/self/maps').read():\n"
        "        os._exit(7)\n"
        "    time.sleep(0.02)\n",
        "utf-8",
    )
    assert run_command("serve", bundle, "--port", "0", env={"PYTHONPATH": str(tmp_path)}).returncode == 7


def test_restart_on_the_same_port_after_kill(start_server: StartServer, bundle: Path) -> None:
    first = start_server()
    first.assert_well()
    first.process.kill()
    first.wait()
    second = start_server(port=str(first.port))
    assert second.port == first.port
    second.assert_well()


def test_stdout_closed(bundle: Path, tmp_path: Path) -> None:
    """`embedserve serve | head -1` must not leave a process behind that cannot be stopped."""
    with (tmp_path / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            command("serve", bundle, "--port", "0"), stdout=subprocess.PIPE, stderr=stderr, env=clean_environment()
        )
        assert process.stdout is not None
        assert b"is ready" in process.stdout.readline()
        process.stdout.close()
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.parametrize("damage", ["cut", "emptied", "gone", "undescribed", "half described"])
def test_a_damaged_bundle_of_the_cache_is_compiled_anew(
    bundle: Path, start_server: StartServer, tmp_path: Path, damage: str
) -> None:
    """`bundle` is what the cache holds; its checkpoint is linked into a cache of the test's own."""
    cache = bundle.parents[1]
    mine = tmp_path / "cache"
    shutil.copytree(cache / "checkpoints", mine / "checkpoints", copy_function=link)
    shutil.copytree(bundle, mine / "bundles" / bundle.name)
    broken = mine / "bundles" / bundle.name
    match damage:
        case "cut":
            os.truncate(broken / "model.onnx.data", 1000)
        case "emptied":
            (broken / "tokenizer.json").write_text("")
        case "gone":
            (broken / "bundle.json").unlink()
        case "undescribed":
            (broken / "bundle.json").write_text("")
        case "half described":
            os.truncate(broken / "bundle.json", 100)
    env = {"EMBEDSERVE_CACHE_DIR": str(mine)}
    start_server(model=Path(MODEL), env=env).assert_well()
    assert run_command("check", broken).returncode == 0


def test_a_damaged_bundle_of_the_users_own_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("")
    (tmp_path / "mine.txt").write_text("mine")
    assert_explained(run_command("serve", tmp_path, "--port", "0"), "is not a bundle of format 1", status=1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle.json", "mine.txt"]


def test_an_empty_address_is_no_wish_to_listen_everywhere(start_server: StartServer) -> None:
    server = start_server(env={"EMBEDSERVE_HOST": ""})
    assert server.url.startswith("http://127.0.0.1:")


@pytest.mark.parametrize("name", ["EMBEDSERVE_API_KEYS", "EMBEDSERVE_API_KEY_FILE"])
def test_empty_keys_do_not_open_the_door(bundle: Path, name: str) -> None:
    done = run_command("serve", bundle, "--port", "0", env={name: ""})
    assert done.returncode == 1
    assert name in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()


@pytest.mark.parametrize(
    "flags",
    [
        ("--drain-timeout", "inf"),
        ("--request-timeout", "inf"),
        ("--request-timeout", "nan"),
        ("--predict-route", "/{a:zz}"),
        ("--predict-route", "/v1/embeddings"),
        ("--health-route", "/metrics"),
        ("--health-route", "/docs"),
        ("--predict-route", "/openapi.json"),
        ("--predict-route", "/v2/repository/index", "--admin-keys", "of-an-administrator"),
        ("--predict-route", "/mine", "--health-route", "/mine"),
        ("--host", "203.0.113.1"),
    ],
)
def test_values_that_would_do_harm_later_are_refused_at_once(bundle: Path, flags: tuple[str, ...]) -> None:
    done = run_command("serve", bundle, "--port", "0", *flags)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert any(line.startswith("embedserve: ") for line in lines)
    assert any("→" in line for line in lines)
    assert "Traceback" not in done.stderr.decode()


def test_a_cache_that_is_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cache"
    file.write_text("")
    done = run_command("serve", MODEL, "--port", "0", env={"EMBEDSERVE_CACHE_DIR": str(file)})
    assert done.returncode == 1
    assert str(file) in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
