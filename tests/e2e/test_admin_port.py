"""A second port: metrics and administrators' routes there only, probes on both, and what else can be closed."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import httpx
import pytest
import trustme

from tests.certificates import Files, connect, trusts
from tests.conftest import StartServer
from tests.e2e.process import PATIENCE, Server, run_command, wait_until

ADMIN = {"authorization": "Bearer an-administrator"}


def admin_url_of(server: Server) -> str:
    [line] = [line for line in server.logged() if line["message"] == "ready"]
    return str(line["admin_url"])


@pytest.fixture(scope="module")
def server(launch: StartServer) -> Server:
    flags = ("--admin-keys", "an-administrator", "--no-docs", "--drain-grace", "2", "--cors-origins", "*")
    return launch("--admin-port", "0", *flags)


@pytest.fixture(scope="module")
def admin(server: Server) -> httpx.Client:
    return httpx.Client(base_url=admin_url_of(server), timeout=PATIENCE, trust_env=False)


def test_clients_have_their_port_without_metrics_and_administration(server: Server) -> None:
    server.assert_well()
    assert server.http.get("/metrics").status_code == 404
    assert server.http.post("/v2/repository/index", headers=ADMIN).status_code == 404
    assert server.http.post("/v2/repository/models/x/load", headers=ADMIN).status_code == 404


def test_the_other_port_has_them_and_no_vectors(server: Server, admin: httpx.Client) -> None:
    server.assert_well()
    assert 'embedserve_requests_total{model="all-MiniLM-L6-v2",route="/v1/embeddings"' in admin.get("/metrics").text
    assert admin.post("/v2/repository/index", headers=ADMIN).json()[0]["state"] == "READY"
    assert admin.post("/v2/repository/index").status_code == 401
    refused = admin.post("/v1/embeddings", json={"input": "a"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "invalid_request_error")
    assert admin.get("/v1/models").status_code == 404


def test_pages_of_other_origins_read_no_administration(server: Server, admin: httpx.Client) -> None:
    origin = {"origin": "https://app.example.org"}
    assert server.http.get("/livez", headers=origin).headers["access-control-allow-origin"] == "*"
    asked = {**origin, "access-control-request-method": "POST"}
    for reply in (admin.get("/metrics", headers=origin), admin.options("/v2/repository/index", headers=asked)):
        assert "access-control-allow-origin" not in reply.headers


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_are_on_both(server: Server, admin: httpx.Client, path: str) -> None:
    assert server.http.get(path).status_code == 200
    assert admin.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/docs/assets/swagger-ui.css"])
def test_pages_can_be_closed(server: Server, admin: httpx.Client, path: str) -> None:
    assert server.http.get(path).status_code == 404
    assert admin.get(path).status_code == 404


def test_it_is_announced(server: Server) -> None:
    assert f"administrators: {admin_url_of(server)}" in server.stdout()


def test_probes_see_a_drain_to_its_end(server: Server, admin: httpx.Client) -> None:
    """The last test of this server: it stops. A request that is never finished keeps it from leaving at once."""
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"POST /v1/embeddings HTTP/1.1\r\nhost: x\r\ncontent-length: 14\r\n\r\n")
        wait_until(lambda: 'in_flight{route="/v1/embeddings"} 1.0' in admin.get("/metrics").text, "the request")
        server.signal(signal.SIGTERM)
        wait_until(lambda: admin.get("/readyz").status_code == 503, "readiness to fail")
        wait_until(lambda: _is_refused(server.port), "connections to be refused")
        assert admin.get("/readyz").status_code == 503
        assert admin.get("/livez").status_code == 200
        slow.sendall(b'{"input": "a"}')
        assert slow.recv(100).startswith(b"HTTP/1.1 200 ")
    assert server.wait() == 0


def _is_refused(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) != 0


def test_where_clients_need_a_certificate_probes_need_none(start_server: StartServer, tmp_path: Path) -> None:
    files = Files(tmp_path, trustme.CA())
    server = start_server(*files.flags, "--tls-client-ca", str(files.ca), "--admin-port", "0")
    connect(server, trusts(files.authority, files.authority.issue_cert("client"))).assert_well()
    with httpx.Client(verify=trusts(files.authority), trust_env=False) as stranger:
        with pytest.raises(httpx.TransportError):
            stranger.get(f"{server.url}/livez")
        admin_url = admin_url_of(server)
        assert admin_url.startswith("https://")
        assert stranger.get(f"{admin_url}/livez").status_code == 200
        assert "embedserve_ready 1.0" in stranger.get(f"{admin_url}/metrics").text


def test_mistakes_are_said_in_one_line(server: Server, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_command("serve", bundle, "--port", "0", "--admin-port", str(port))
    assert done.returncode == 1
    first, remedy = done.stderr.decode().splitlines()
    assert first == f"embedserve: cannot listen on 127.0.0.1:{port}: Address already in use"
    assert "--admin-port" in remedy
    alone = run_command("serve", bundle, "--port", "0", "--admin-host", "127.0.0.1")
    assert b"--admin-host is set, and --admin-port is not" in alone.stderr
    both = run_command("serve", bundle, "--port", str(port), "--admin-port", str(port))
    assert f"--port and --admin-port are both {port}" in both.stderr.decode()
