"""Asks the server of these settings, on this machine, how it is: for containers whose image has no curl."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Thread

from service.errors import StartupError
from service.settings import Settings

_LARGEST = 4096  # bytes of an answer
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where to listen → where to ask


@dataclass(frozen=True)
class Answer:
    """Whether the status was 200, and its one word."""

    is_well: bool
    word: str


def ask(settings: Settings, path: str, seconds: float) -> Answer:
    """What /readyz or /livez says, on the second port if there is one; no answer in time is one as well. Raises
    StartupError where such a server cannot be asked."""
    connection = _connection(settings, seconds)
    answers: SimpleQueue[Answer] = SimpleQueue()
    # A socket's time limit begins anew with every byte. The thread ends with the process, whatever it waits for.
    Thread(target=lambda: answers.put(_answer(connection, path)), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return Answer(False, f"no answer at {_place(connection)}: timed out")


def _answer(connection: http.client.HTTPConnection, path: str) -> Answer:
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        body = reply.read(_LARGEST)
    except (OSError, http.client.HTTPException, UnicodeError) as error:  # the last one for a host that is no name
        return Answer(False, f"no answer at {_place(connection)}: {error or type(error).__name__}")
    finally:
        connection.close()
    try:
        return Answer(reply.status == 200, str(json.loads(body)["status"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Answer(False, f"another server answers at {_place(connection)}")


def _connection(settings: Settings, seconds: float) -> http.client.HTTPConnection:
    has_second = settings.admin_port is not None
    port = settings.port if settings.admin_port is None else settings.admin_port
    host = (settings.admin_host if has_second else None) or settings.host
    if port == 0:
        raise StartupError("the port is 0, and so any one", "give the server a port of its own")
    if any(one.isspace() for one in host):
        raise StartupError(f"{host!r} is no host", "mend --host, or --admin-host")
    if settings.tls_certificate is None:
        return http.client.HTTPConnection(_ANY.get(host, host), port, timeout=seconds)
    if settings.tls_client_ca is not None and not has_second:
        reason = "the server takes only clients with a certificate (--tls-client-ca), and this one has none"
        raise StartupError(reason, "set --admin-port: nobody needs one there")
    return http.client.HTTPSConnection(_ANY.get(host, host), port, timeout=seconds, context=_unverified())


def _unverified() -> ssl.SSLContext:
    """The certificate is for the names by which others find it; nothing secret is sent or asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _place(connection: http.client.HTTPConnection) -> str:
    return f"{connection.host}:{connection.port}"
