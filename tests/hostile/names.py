"""Names that clients make up, by the hundred thousand, in as little time as a connection takes."""

from __future__ import annotations

import threading

from tests.e2e.process import Raw
from tests.hostile.target import ADMIN_KEY, KEY, MARK, Target

KINDS = 10
"""Of places for a name: each is in one request of so many."""

_STATUS = b"HTTP/1.1 "
_BODY = '{{"input":"a","model":"{name}","user":"{name}"}}'
_METHODS = ("GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE", "PROPFIND", "REPORT", "M-SEARCH")


def send_names(target: Target, numbers: range) -> None:
    """One request for each number, pipelined on one connection; each is answered, and none as a fault of the server."""
    answered, last = 0, b""
    with Raw(target.port) as raw:
        sending = threading.Thread(target=_send, args=(raw, numbers), daemon=True)
        sending.start()
        while answered < len(numbers):
            received = raw.socket.recv(1 << 16)
            assert received, f"closed after {answered} replies"
            last += received
            assert b"HTTP/1.1 5" not in last
            answered += last.count(_STATUS)
            last = last[1 - len(_STATUS) :]
        sending.join()


def _send(raw: Raw, numbers: range) -> None:
    for begin in range(0, len(numbers), 200):
        raw.send(b"".join(_request(number) for number in numbers[begin : begin + 200]))


def _method(number: int) -> str:
    return _METHODS[number // KINDS % len(_METHODS)] if number % KINDS == 0 else "GET"


def _request(number: int) -> bytes:
    name, more = f"{MARK}-{number}", ""
    match number % KINDS:
        case 0:
            line = f"{_method(number)} /{name}"
        case 1:
            line = f"GET /v1/models/{name}"
        case 2:
            line = f"GET /v2/models/{name}/versions/{number}"
        case 3:
            line, more = "POST /v1/embeddings", _BODY
        case 4:
            line, more = f"POST /openai/deployments/{name}/embeddings?api-version={name}", _BODY
        case 5:
            line, more = f"POST /v1/projects/{name}/locations/{name}/publishers/google/models/{name}:predict", "{{}}"
        case 6:
            line, more = f"POST /v2/repository/models/{name}/load", "{{}}"
        case 7:
            line = f"GET /livez?{name}={name}&key={name}"
        case 8:
            line = f"GET /v1/models?api-version={name}"
        case _:
            line, more = f"POST /v2/models/{name}/infer", _BODY
    key = {6: ADMIN_KEY, 8: name}.get(number % KINDS, KEY)  # one that nobody has, too
    body = more.format(name=name)
    return (
        f"{line} HTTP/1.1\r\nHost: {name}\r\nAuthorization: Bearer {key}\r\nX-Request-Id: id-{number}\r\n"
        f"User-Agent: {name}\r\nX-{name}: {name}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
