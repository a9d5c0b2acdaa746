"""The server under attack: models of every kind, keys, and somebody who asks all the time whether it lives."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.conftest import Golden
from tests.e2e.process import MODEL, Raw, Server, openai_vectors

KEY, ADMIN_KEY = "sk-markedkey-9f3a51c07d", "sk-markedadmin-77e1d24b60"
MARK = "zqxmarkxqz"  # stands in inputs, and never in a log line or among the labels of metrics
_PROBE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"


@dataclass
class Target:
    """`server` takes KEY, and ADMIN_KEY for its repository of models."""

    server: Server
    golden: Golden
    _more: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server.port

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """With KEY, unless `headers` say otherwise."""
        return self.server.http.request(
            method,
            self.server.url + path,
            content=body,
            headers=[
                (name.encode(), text.encode("latin-1")) for name, text in {**self._more, **(headers or {})}.items()
            ],
        )

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """A JSON body, or bytes as they are, with KEY."""
        return self.server.post(path, body, **{**self._more, **headers})

    def raw(self, *pieces: bytes, replies: int = 1) -> list[int]:
        """The statuses of what comes back for bytes sent piece by piece: at most `replies`, fewer where the connection
        is closed."""
        found: list[int] = []
        with Raw(self.port) as raw:
            raw.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with contextlib.suppress(ConnectionError):
                for piece in pieces:
                    raw.send(piece)
                    time.sleep(0.02)  # or the kernel would join them
            with contextlib.suppress(ConnectionError):
                while len(found) < replies:
                    found.append(raw.reply()[0])
        return found

    def megabytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) / 1024

    def series(self) -> set[str]:
        """Names and labels of all metrics, without their values."""
        lines = self.server.http.get("/metrics").text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    def assert_well(self) -> None:
        """It gives the recorded vectors, and has told nobody what it read."""
        reply = self.post("/v1/embeddings", {"model": MODEL, "input": self.golden.texts[:8]})
        assert reply.status_code == 200, reply.text
        assert np.abs(openai_vectors(reply) - self.golden.vectors[:8]).max() <= 1e-4
        self.assert_silent()

    def assert_silent(self) -> None:
        """No marked input and no key is in its output, and nothing went wrong that it would have noticed."""
        said = self.server.stdout() + self.server.stderr()
        for secret in (MARK, KEY, ADMIN_KEY, KEY[3:], ADMIN_KEY[3:]):
            assert secret not in said
        assert "Traceback" not in said, said[said.index("Traceback") - 500 :][:3000]
        assert '"level":"error"' not in said, said[said.index('"level":"error"') - 200 :][:1000]
        self.server.logged()  # every line is JSON

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], float]]:
        """Asks for /livez without a pause; the value gives the slowest answer so far, in seconds."""
        slowest, stop = [0.0], threading.Event()

        def ask() -> None:
            with socket.create_connection(("127.0.0.1", self.port), timeout=60) as probe:
                while not stop.is_set():
                    began = time.monotonic()
                    probe.sendall(_PROBE)
                    assert probe.recv(1 << 16).startswith(b"HTTP/1.1 200")
                    slowest[0] = max(slowest[0], time.monotonic() - began)
                    time.sleep(0.002)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        try:
            yield lambda: slowest[0]
        finally:
            stop.set()
            thread.join()
