"""`embedserve health` asks the server of the same settings, wherever and however it listens."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from tests.certificates import Files
from tests.conftest import StartServer
from tests.e2e.process import Server, run_command, wait_until
from tests.rolling.proxies import free_port


def health(*flags: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit status, and what it says; nothing goes to stderr but what is wrong with the settings."""
    done = run_command("health", *flags, env=env)
    assert bool(done.stdout) != bool(done.stderr), done.stderr
    return done.returncode, (done.stdout or done.stderr).decode().strip()


@pytest.fixture
def server(launch: StartServer) -> Server:
    return launch("--drain-grace", "30")


def test_it_says_what_readiness_says(server: Server) -> None:
    assert health("--port", str(server.port)) == (0, "ready")
    assert health(env={"EMBEDSERVE_PORT": str(server.port), "EMBEDSERVE_HOST": "0.0.0.0"}) == (0, "ready")
    assert health(env={"AIP_HTTP_PORT": str(server.port)}) == (0, "ready")
    server.signal(signal.SIGTERM)
    wait_until(lambda: health("--port", str(server.port)) == (1, "not ready"), "the drain to show")
    assert health("--port", str(server.port), "--live") == (0, "alive")


def test_the_second_port_is_asked_where_there_is_one(launch: StartServer) -> None:
    """It answers before the first one and after it."""
    port, admin_port = str(free_port()), str(free_port())
    launch("--admin-port", admin_port, port=port)
    assert health("--port", "1", "--admin-port", admin_port) == (0, "ready")
    assert health("--host", "::1", "--admin-host", "127.0.0.1", "--admin-port", admin_port) == (0, "ready")


def test_https_with_a_certificate_for_other_names(launch: StartServer, tmp_path: Path) -> None:
    files = Files(tmp_path, trustme.CA())
    flags = (*files.flags, "--port", str(launch(*files.flags).port))
    assert health(*flags) == (0, "ready")
    status, said = health("--port", flags[-1])
    assert (status, "answers at" in said or "no answer" in said) == (1, True)


def test_where_clients_need_certificates_it_says_what_to_do() -> None:
    tls = ("--tls-certificate", "c.pem", "--tls-private-key", "k.pem", "--tls-client-ca", "ca.pem")
    status, said = health(*tls[:2], *tls[4:])
    assert status == 1
    assert said.endswith("→ set --admin-port: nobody needs one there")


def test_nobody_there() -> None:
    status, said = health("--port", (port := str(free_port())))
    assert status == 1
    assert said.startswith(f"no answer at 127.0.0.1:{port}: ")


def test_one_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        status, said = health("--port", (port := str(silent.getsockname()[1])), "--timeout", "0.2")
    assert (status, said) == (1, f"no answer at 127.0.0.1:{port}: timed out")


def test_one_that_never_ends_its_answer() -> None:
    """A byte now and then begins a socket's time anew."""
    over = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nx: ")
            while not over.wait(0.1):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,))
        thread.start()
        status, said = health("--port", (port := str(listener.getsockname()[1])), "--timeout", "1")
        over.set()
        thread.join()
    assert (status, said) == (1, f"no answer at 127.0.0.1:{port}: timed out")


def test_one_whose_answer_is_deep() -> None:
    """Deeper than Python's reader of JSON goes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 4096)

        thread = threading.Thread(target=answer)
        thread.start()
        status, said = health("--port", (port := str(listener.getsockname()[1])), "--timeout", "30")
        thread.join()
    assert (status, said) == (1, f"another server answers at 127.0.0.1:{port}")


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1"])
def test_a_time_that_is_none(seconds: str) -> None:
    status, said = health(f"--timeout={seconds}")
    assert status == 2
    assert "argument --timeout" in said.splitlines()[-1]


@pytest.mark.parametrize("host", ["a b", "a..b"])
def test_a_host_that_is_none(host: str) -> None:
    status, said = health("--host", host, "--port", str(free_port()))
    assert status == 1
    assert "Traceback" not in said
    assert "another server" not in said


def test_a_port_that_may_be_any() -> None:
    status, said = health("--port", "0")
    assert status == 1
    assert "the port is 0" in said
