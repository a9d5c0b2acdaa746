"""HTTPS: the same answers, nothing older than TLS 1.2, clients with certificates, certificates that are exchanged."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import trustme

from service.certificate_dates import expires_at
from tests.certificates import Files, connect, trusts
from tests.conftest import Golden, StartServer
from tests.e2e.process import MODEL, PATIENCE, Server, full_windows, run_command, wait_until

EXPIRES = "embedserve_tls_certificate_expires_timestamp_seconds"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"), authority)


@pytest.fixture(scope="module")
def server(launch: StartServer, files: Files, authority: trustme.CA) -> Server:
    return connect(launch(*files.flags), trusts(authority))


@pytest.fixture(scope="module", autouse=True)
def silent(server: Server) -> Iterator[list[socket.socket]]:
    """Two clients that never finish a handshake, from before the first test on."""
    with (
        socket.create_connection(("127.0.0.1", server.port)) as one,
        socket.create_connection(one.getpeername()) as two,
    ):
        two.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")  # a hello that does not go on
        yield [one, two]


def test_vectors_are_the_same(server: Server, golden: Golden) -> None:
    assert server.url.startswith("https://")
    assert np.abs(server.embed(golden.texts[:8]) - golden.vectors[:8]).max() <= 1e-4


def test_browsers_are_told_to_stay_with_it(server: Server) -> None:
    assert server.http.get("/livez").headers["strict-transport-security"] == "max-age=31536000"


def test_large_bodies_and_replies_pass(server: Server) -> None:
    reply = server.post("/v1/embeddings", {"model": MODEL, "input": ["a text"] * 2048})
    assert len(reply.content) > 2**22
    assert len(reply.json()["data"]) == 2048
    assert server.post("/tokenize", {"inputs": "word " * 200_000}).status_code == 200


def test_openai_with_its_own_authority(server: Server, authority: trustme.CA, golden: Golden) -> None:
    with openai.DefaultHttpxClient(verify=trusts(authority), trust_env=False) as http:
        client = openai.OpenAI(base_url=f"https://localhost:{server.port}/v1", api_key="none", http_client=http)
        found = client.embeddings.create(model=MODEL, input=golden.texts[0]).data[0].embedding
    assert np.abs(np.asarray(found) - golden.vectors[0]).max() <= 1e-4


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(server: Server, files: Files) -> None:
    body = ["-d", '{"input": "a"}', "-H", "content-type: application/json"]
    own = ["curl", "-sS", "--noproxy", "*", "--cacert", str(files.ca), *body, f"{server.url}/v1/embeddings"]
    done = subprocess.run(own, capture_output=True, timeout=PATIENCE, check=True)
    assert len(json.loads(done.stdout)["data"][0]["embedding"]) == 384


def test_who_does_not_trust_the_authority_is_not_served(server: Server) -> None:
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{server.url}/livez", trust_env=False)
    server.assert_well()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_modern_versions_are_spoken(server: Server, authority: trustme.CA, version: ssl.TLSVersion) -> None:
    context = trusts(authority)
    context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, trust_env=False) as http:
        assert http.get(f"{server.url}/livez").status_code == 200


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_older_versions_are_refused(server: Server, authority: trustme.CA) -> None:
    context = trusts(authority)
    context.set_ciphers("ALL:@SECLEVEL=0")  # so that the client would
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", server.port)) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname="localhost")
    server.assert_well()
    assert server.metric("embedserve_tls_failed_handshakes_total", reason="old_version") == 1
    wait_until(lambda: "a TLS handshake failed: unsupported protocol" in server.stderr(), "a line that says why")


def test_http_without_tls_gets_no_answer(server: Server) -> None:
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{server.port}/livez", trust_env=False)
    server.assert_well()
    assert server.metric("embedserve_tls_failed_handshakes_total", reason="no_tls") == 1


def test_a_head_over_its_limit_ends_the_connection(server: Server, authority: trustme.CA) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw,
        trusts(authority).wrap_socket(raw, server_hostname="localhost") as client,
    ):
        client.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\nx-long: " + b"a" * 70_000)
        assert client.recv(100).startswith(b"HTTP/1.1 431 ")


def test_certificates_are_exchanged_while_requests_run(start_server: StartServer, tmp_path: Path) -> None:
    """Another authority, another type of key; a broken file in between changes nothing."""
    files = Files(tmp_path, trustme.CA())
    server = connect(start_server(*files.flags), trusts(files.authority))
    server.assert_well()  # a connection that stays open
    assert server.metric(EXPIRES) == expires_at(files.certificate.read_text())
    files.key.write_bytes(b"half of a ke")
    wait_until(lambda: "stays as it was" in server.stderr(), "the broken key to be noticed")
    with httpx.Client(verify=trusts(files.authority), trust_env=False) as http:
        assert http.get(f"{server.url}/livez").status_code == 200
    files.issue(trustme.CA(), trustme.KeyType.RSA)
    wait_until(lambda: "certificate read again" in server.stderr(), "the new pair to be read")
    assert server.metric(EXPIRES) == expires_at(files.certificate.read_text())
    for host in ("127.0.0.1", "localhost"):  # with a server's name in the handshake, and without
        with httpx.Client(verify=trusts(files.authority), trust_env=False) as http:
            assert http.get(f"https://{host}:{server.port}/livez").status_code == 200
    server.assert_well()


def test_clients_need_a_certificate_of_the_authority_of_the_moment(start_server: StartServer, tmp_path: Path) -> None:
    files, old = Files(tmp_path / "server", trustme.CA()), trustme.CA()
    (clients := tmp_path / "clients.crt").write_bytes(old.cert_pem.bytes())
    server = start_server(*files.flags, "--tls-client-ca", str(clients))
    allowed = trusts(files.authority, old.issue_cert("client"))
    refused = (httpx.ReadError, httpx.ConnectError, httpx.RemoteProtocolError, httpx.WriteError)
    connect(server, allowed).assert_well()
    strangers = [None, trustme.CA().issue_cert("client")]
    for identity in strangers:
        with httpx.Client(verify=trusts(files.authority, identity), trust_env=False) as http, pytest.raises(refused):
            http.get(f"{server.url}/livez")
    known = connect(server, allowed)
    for reason in ("no_certificate", "bad_certificate"):
        assert known.metric("embedserve_tls_failed_handshakes_total", reason=reason) == 1
    said = "a TLS handshake failed: peer did not return a certificate"
    wait_until(lambda: said in server.stderr(), "a line that says why")
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as raw,
        trusts(files.authority).wrap_socket(raw, server_hostname="localhost") as stranger,
        pytest.raises(ssl.SSLError, match=r"(?i)alert.certificate.required"),
    ):
        stranger.recv(1)  # with TLS 1.3 a client learns of it after its own part
    new = trustme.CA()
    clients.write_bytes(new.cert_pem.bytes())
    wait_until(lambda: "certificate read again" in server.stderr(), "the new authority to be read")
    with httpx.Client(verify=allowed, trust_env=False) as http, pytest.raises(refused):
        http.get(f"{server.url}/livez")
    connect(server, trusts(files.authority, new.issue_cert("client"))).assert_well()


def test_a_server_that_stops_does_not_wait_for_idle_connections(
    start_server: StartServer, files: Files, authority: trustme.CA
) -> None:
    server = connect(start_server(*files.flags, "--drain-timeout", "100"), trusts(authority))
    with (
        socket.create_connection(("127.0.0.1", server.port)) as raw,
        trusts(authority).wrap_socket(raw, server_hostname="localhost") as idle,
    ):
        idle.sendall(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        assert server.post("/v1/embeddings", {"input": full_windows(4)}).status_code == 200
        server.signal(signal.SIGTERM)
        assert server.process.wait(timeout=50) == 0


def test_a_start_that_cannot_be_says_why_in_one_line(files: Files, bundle: Path) -> None:
    done = run_command("serve", bundle, "--port", "0", "--tls-certificate", files.certificate)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == [
        "embedserve: --tls-certificate is set, but TLS needs --tls-certificate and --tls-private-key",
        "  → set both, or neither to serve plain HTTP",
    ]


def test_handshakes_that_do_not_end_are_cut(server: Server, silent: list[socket.socket]) -> None:
    for one in silent:
        one.settimeout(PATIENCE)
        while one.recv(100):  # an alert may come first
            pass
    server.assert_well()
    assert "Traceback" not in server.stderr()
