"""Certificates for tests, made when they are needed, and clients that trust them."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx
import trustme
from cryptography.hazmat.primitives import serialization

from tests.e2e.process import PATIENCE, Server

NAMES = ("localhost", "127.0.0.1")


class Files:
    """A certificate and its key in a folder, as a secret that is mounted; they may be issued anew."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.authority = authority
        self.certificate, self.key, self.ca = folder / "tls.crt", folder / "tls.key", folder / "ca.crt"
        self.serial = 0
        self.issue()

    def issue(self, authority: trustme.CA | None = None, kind: trustme.KeyType = trustme.KeyType.ECDSA) -> None:
        """Another pair in the same place."""
        self.authority = authority or self.authority
        issued = self.authority.issue_cert(*NAMES, key_type=kind)
        self.certificate.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())
        self.ca.write_bytes(self.authority.cert_pem.bytes())

    @property
    def flags(self) -> list[str]:
        """For a server that uses it."""
        return ["--tls-certificate", str(self.certificate), "--tls-private-key", str(self.key)]

    def protect(self) -> None:
        """Writes the key with a password."""
        key = serialization.load_pem_private_key(self.key.read_bytes(), None)
        locked = serialization.BestAvailableEncryption(b"a password")
        pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        self.key.write_bytes(key.private_bytes(pem, form, locked))


def trusts(authority: trustme.CA, identity: trustme.LeafCert | None = None) -> ssl.SSLContext:
    """A client's side; `identity` is its own certificate."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if identity is not None:
        identity.configure_cert(context)
    return context


def connect(server: Server, context: ssl.SSLContext) -> Server:
    """Gives the server's test client these certificates."""
    server.http = httpx.Client(timeout=PATIENCE, trust_env=False, verify=context, base_url=server.url)
    return server
