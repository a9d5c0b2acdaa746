"""TLS for the listeners: a certificate, its key, and those who sign clients' certificates, read again when they change.

A handshake takes the newest files that could be used (`SSLObject.context`, set by the callback that OpenSSL calls for
every client, with a server's name or without). So a rotation is atomic, also where it brings another type of key: a
context that is loaded twice would keep the old certificate beside the new one.

Event loops say nothing of handshakes that fail, and close the connection before OpenSSL's alert is sent. So the object
that they call for every step of a handshake counts and logs why, and lets the alert go out first.
"""

from __future__ import annotations

import logging
import ssl
import time
from pathlib import Path
from typing import Any

from service import metrics
from service.certificate_dates import expires_at
from service.errors import StartupError
from service.file_stamps import Stamp, stamp
from service.logs import event

# How often the files are looked at for a change, in seconds.
_LOOK_EVERY = 1.0
_CERTIFICATE, _KEY, _CLIENT_CA = "--tls-certificate", "--tls-private-key", "--tls-client-ca"

# OpenSSL's reasons, for metrics; of hundreds, those that are usual.
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "no_certificate",
    "CERTIFICATE_VERIFY_FAILED": "bad_certificate",
    "UNSUPPORTED_PROTOCOL": "old_version",
    "HTTP_REQUEST": "no_tls",
    "WRONG_VERSION_NUMBER": "no_tls",
}


class _Handshake(ssl.SSLObject):
    """A client's, which tells why it failed."""

    _failure: ssl.SSLError | None = None

    def do_handshake(self) -> None:
        """The event loop's call whenever something has come. It sends what is to be sent only if more is wanted: so
        more is, once, after a failure. Raises ssl.SSLError."""
        if self._failure is not None:
            raise self._failure
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            self._failure = error
            _tell(error)
            raise ssl.SSLWantReadError from None


def _tell(error: ssl.SSLError) -> None:
    reason = error.reason or "no reason"
    kind = _REASONS.get(reason) or ("refused_by_client" if "_ALERT_" in reason else "other")
    metrics.TLS_FAILURES.labels(kind).inc()
    why = error.verify_message if isinstance(error, ssl.SSLCertVerificationError) else reason.replace("_", " ").lower()
    event(logging.INFO, f"a TLS handshake failed: {why}", reason=kind)


class Certificates:
    """The files of TLS, and the context in which handshakes begin.

    Files that were rewritten are looked at within a second. Those that cannot be used change nothing and are logged.
    """

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path | None = None) -> None:
        """With `client_ca`, clients without a certificate that one of these has signed are refused. Raises
        StartupError."""
        self._certificate, self._key, self._client_ca = certificate, private_key, client_ca
        self._stamps = self._look()
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._newest = self._read()
        self.context = _new_context(asks_clients=client_ca is not None)
        self.context.sni_callback = self._take_newest
        self.context.sslobject_class = _Handshake

    def without_clients(self) -> Certificates:
        """The same, for a listener whose clients need no certificate."""
        return self if self._client_ca is None else Certificates(self._certificate, self._key)

    def look_again(self) -> None:
        """Takes the files anew if they have changed."""
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + _LOOK_EVERY
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._newest = self._read()
        except StartupError as error:
            event(logging.ERROR, f"{error.message}; the certificate stays as it was", remedy=error.remedy)
        else:
            event(logging.INFO, "certificate read again", certificate=str(self._certificate))

    def _take_newest(self, handshake: ssl.SSLObject, name: str | None, begun: ssl.SSLContext) -> None:
        handshake.context = self._newest

    def _look(self) -> tuple[Stamp | None, ...]:
        return tuple(stamp(path) for path in (self._certificate, self._key, self._client_ca) if path is not None)

    def _read(self) -> ssl.SSLContext:
        """Raises StartupError."""
        try:
            return self._read_files()
        except (OSError, ValueError) as error:  # such as OpenSSL's, of a file that vanishes, of a date that is none
            reason = f"the certificate {self._certificate} cannot be used: {error}"
            raise StartupError(reason, f"mend {_CERTIFICATE} and {_KEY}, files in PEM that clients take") from None

    def _read_files(self) -> ssl.SSLContext:
        context = _new_context(asks_clients=self._client_ca is not None)
        _load_pair(context, self._certificate, self._key)
        if self._client_ca is not None:
            _load_clients(context, self._client_ca)
        if doubt := _doubt(self._certificate, self._key):
            event(logging.WARNING, f"clients will refuse the certificate {self._certificate}: {doubt}")
        metrics.TLS_EXPIRES.set(expires_at(self._certificate.read_text("ascii", "replace")))
        return context


def _new_context(*, asks_clients: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # which costs the server more than the client
    context.set_alpn_protocols(["http/1.1"])
    if asks_clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0  # a session that is taken up again would pass by what was trusted then
    return context


def certificates(certificate: Path | None, private_key: Path | None, client_ca: Path | None) -> Certificates | None:
    """What the settings ask for; None: plain HTTP. Raises StartupError."""
    if certificate is not None and private_key is not None:
        return Certificates(certificate, private_key, client_ca)
    for path, flag in ((certificate, _CERTIFICATE), (private_key, _KEY), (client_ca, _CLIENT_CA)):
        if path is not None:
            reason = f"{flag} is set, but TLS needs {_CERTIFICATE} and {_KEY}"
            raise StartupError(reason, "set both, or neither to serve plain HTTP")
    return None


def _load_pair(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    for path, flag in ((certificate, _CERTIFICATE), (key, _KEY)):
        _check_readable(path, flag)

    def refuse() -> str:
        """In place of OpenSSL's question at the terminal."""
        remedy = "write it without one (openssl pkey -in KEY -out PLAIN) and let only the server's user read it"
        raise StartupError(f"the private key {key} is protected by a password", remedy)

    try:
        context.load_cert_chain(certificate, key, password=refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            reason = f"the private key {key} is not that of the certificate {certificate}"
            raise StartupError(
                reason, f"mend {_CERTIFICATE} or {_KEY}; the server's own certificate comes first"
            ) from None
        why = (error.reason or "it is not PEM").replace("_", " ").lower()
        reason = f"the certificate {certificate} and the private key {key} cannot be used: {why}"
        raise StartupError(
            reason, "both are files in PEM; the certificate is followed by those between it and the root"
        ) from None


def _load_clients(context: ssl.SSLContext, client_ca: Path) -> None:
    _check_readable(client_ca, _CLIENT_CA)
    try:
        context.load_verify_locations(client_ca)
    except ssl.SSLError:
        reason = f"{client_ca} holds no certificate that could be used"
        raise StartupError(
            reason, f"{_CLIENT_CA} is a file of certificates in PEM, of those who sign clients'"
        ) from None


def _check_readable(path: Path, flag: str) -> None:
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise StartupError(f"{path} cannot be read: {error.strerror}", f"mend {flag}") from None


def _doubt(certificate: Path, key: Path) -> str | None:
    """Why a client that trusts whoever signed it would refuse it (expired, not for servers), found by a handshake in
    memory."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key, password="")  # or OpenSSL would ask at a terminal, if it was exchanged
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate itself is trusted
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends: list[Any] = [
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for end in (*ends, *ends):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return str(error.verify_message)
    return None
