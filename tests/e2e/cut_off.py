"""A server without a network, from start to exit: python -m tests.e2e.cut_off FOLDER [MODEL], as one line of JSON.

To be run in a network namespace of its own (`unshare -rn`), where nothing but loopback is: an attempt to leave it,
from Python or from any library, is counted by the kernel. Python's own attempts are written down as well.
"""

from __future__ import annotations

import fcntl
import json
import re
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from tests.e2e.process import DIMENSIONS, MODEL, VERTEX_MODEL, Server

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_ELSEWHERE = ("192.0.2.1", 443)  # of the addresses for documentation, RFC 5737

_HOOK = """
import sys

def note(name, arguments):
    if name in ("socket.connect", "socket.sendto"):
        place = arguments[1]
    elif name in ("socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments
    else:
        return
    if not (isinstance(place, tuple) and place[0] in ("127.0.0.1", "::1", "localhost")):
        with open({path!r}, "a") as file:
            print(name, place, file=file)

sys.addaudithook(note)
"""

BODIES: dict[str, Any] = {
    "/v1/embeddings": {"input": "a"},
    VERTEX_MODEL: {"instances": [{"content": "a"}]},
    f"/v1beta/models/{MODEL}:embedContent": {"content": {"parts": [{"text": "a"}]}},
    f"/v1/models/{MODEL}:predict": {"instances": ["a"]},
    f"/v2/models/{MODEL}/infer": {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]},
    "/v2/embed": {"texts": ["a"], "input_type": "search_query", "embedding_types": ["float"], "model": MODEL},
    "/embed": {"inputs": "a"},
    "/tokenize": {"inputs": "a"},
}


def loopback_up() -> None:
    """A new namespace has it, but not up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        asked = fcntl.ioctl(one, _SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        flags = struct.unpack("16sh14x", asked)[1]
        fcntl.ioctl(one, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))


def unrouted() -> int:
    """Packets that this namespace had no way out for, of IPv4 and IPv6."""
    titles, values = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:3] == "Ip:"]
    six = re.search(r"Ip6OutNoRoutes\s+(\d+)", Path("/proc/net/snmp6").read_text())
    return int(values[titles.index("OutNoRoutes")]) + (int(six[1]) if six else 0)


def statuses(server: Server) -> dict[str, int]:
    """Of a good request to each dialect, and of a request without sense to every other operation."""
    found = {path: server.post(path, body).status_code for path, body in BODIES.items()}
    for path, methods in server.http.get("/openapi.json").json()["paths"].items():
        filled = re.sub(r"{\w+}", MODEL, path)
        for method in methods:
            if filled not in BODIES:
                reply = server.http.request(method.upper(), filled, content=b"{}" if method == "post" else None)
                found[f"{method} {path}"] = reply.status_code
    return found


def main(folder: Path, *model: str) -> dict[str, Any]:
    """What happened."""
    loopback_up()
    notes = folder / "attempts"
    (folder / "sitecustomize.py").write_text(_HOOK.format(path=str(notes)))
    notes.touch()
    root = Path(__file__).parents[2]
    server = Server(folder / "server", [*model, "--port", "0"], {"PYTHONPATH": f"{folder}:{root}"})
    try:
        server.wait_ready()
        found = statuses(server)
        dimensions = server.embed("a").shape[1]
        server.signal(signal.SIGTERM)
        status = server.wait()
    finally:
        server.stop()
    left = unrouted()
    with socket.socket() as control:
        refused = control.connect_ex(_ELSEWHERE)
    return {
        "statuses": found,
        "dimensions": dimensions == DIMENSIONS,
        "exit": status,
        "attempts": notes.read_text().splitlines(),
        "unrouted": left,
        "control": unrouted() - left,  # the kernel counts
        "refused": refused != 0,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
