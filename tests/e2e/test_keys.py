"""Where keys are kept: hashed in a file, out of sight of other users, and out of the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.key_file import digest
from tests.conftest import StartServer
from tests.e2e.process import run_command

BODY = {"input": "a"}
MINE = "a-key-of-mine-0123456789"


def made(*options: str, stdin: str = "") -> tuple[str, str]:
    """What a key's line is, and what is said beside it."""
    done = run_command("key", *options, stdin=stdin.encode())
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode(), done.stderr.decode()


def test_made_keys_open_the_door_and_their_file_does_not(start_server: StartServer, tmp_path: Path) -> None:
    line, told = made("--name", "search", "--requests-per-minute", "100", "--tokens-per-minute", "unlimited")
    hashed, said = made("--hash", "--name", "mine", stdin=f"{MINE}\n")
    key = told.strip()
    assert line == f"sha256:{digest(key).hex()} name=search requests_per_minute=100 tokens_per_minute=unlimited\n"
    assert (hashed, said) == (f"sha256:{digest(MINE).hex()} name=mine\n", "")
    file, admins = tmp_path / "keys", tmp_path / "admins"
    file.write_text(line + hashed + "short-one name=short\n")
    admin_line, admin = made("--name", "ops")
    admins.write_text(admin_line)
    fixed = "sk-in-the-environment-0123456789"
    flags = ("--api-key-file", str(file), "--admin-key-file", str(admins))
    server = start_server(*flags, env={"EMBEDSERVE_API_KEYS": f"{fixed},sha256:{digest('hashed').hex()}"})
    for right in (key, MINE, fixed, "hashed", "short-one"):
        assert server.post("/v1/embeddings", BODY, api_key=right).status_code == 200
    for wrong in (line.split()[0], digest(key).hex(), digest("hashed").hex(), "name=search", admin.strip()):
        assert server.post("/v1/embeddings", BODY, api_key=wrong).status_code == 401
    index = "/v2/repository/index"
    reply = server.post(index, {}, api_key=admin.strip())
    assert reply.status_code == 200
    assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
    assert server.post(index, {}, api_key=key).status_code == 401
    reply = server.post(f"/v1/embeddings?key={key}", BODY)
    (line_logged,) = server.access_lines(reply.headers["x-request-id"])
    assert (line_logged["route"], line_logged["key"]) == ("/v1/embeddings", "search")
    log = server.stderr()
    assert "1 of the keys have fewer than 22 characters" in log
    for secret in (key, MINE, fixed, "short-one", digest(key).hex()):
        assert secret not in log
    arguments = Path(f"/proc/{server.process.pid}/cmdline").read_bytes()
    assert b"api-key-file" in arguments
    assert fixed.encode() not in arguments


@pytest.mark.parametrize(
    "options", [("--name", "a b"), ("--requests-per-minute", "0"), ("--tokens-per-minute", "many"), ("--hash",)]
)
def test_a_line_that_no_file_may_hold_is_not_made(options: tuple[str, ...]) -> None:
    done = run_command("key", *options)
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"\xe2\x86\x92" in done.stderr  # the arrow before the remedy
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["sha256:abc", "a-key-of-mine with words", "k1-0123456789abcdefghijkl name="])
def test_a_file_with_a_mistake_is_refused_and_not_quoted(bundle: Path, tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# keys\n{text}\n")
    done = run_command("serve", bundle, "--port", "0", "--api-key-file", file)
    assert done.returncode == 1
    assert b"line 2" in done.stderr
    assert text.encode() not in done.stderr
    assert b"Traceback" not in done.stderr
