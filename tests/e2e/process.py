"""A server process and what tests need to know of one. Everything here waits by polling, and never for ever."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

MODEL = "all-MiniLM-L6-v2"
DIMENSIONS = 384
PATIENCE = 60.0  # seconds; long before it every one of these waits has ended on any machine
READY_LINE = re.compile(r"^(?P<model>\S+) is ready at (?P<url>(?P<scheme>https?)://\S+:(?P<port>\d+)) ", re.MULTILINE)
VERTEX_MODEL = f"/v1/projects/p/locations/l/publishers/google/models/{MODEL}:predict"
VERTEX_ENDPOINT = "/v1/projects/p/locations/l/endpoints/1234567890:predict"

Vectors = NDArray[np.float32]  # (texts, dimensions)


def full_windows(count: int, first: int = 0) -> list[str]:
    """Texts that fill one window each (254 tokens and the special ones), numbered from `first`.

    No two are alike: what is alike would be computed once.
    """
    numbers = [f"{first + i:016b}" for i in range(count)]
    return ["".join("dog " if bit == "1" else "cat " for bit in number) + "cat " * 238 for number in numbers]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of its own, but for the cache."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "EMBEDSERVE_CACHE_DIR" or not name.startswith(("EMBEDSERVE_", "AIP_", "OTEL_"))
    }
    return kept | dict(extra or {})


def command(*arguments: str | Path) -> list[str]:
    """The command line under test."""
    return [sys.executable, "-m", "service.cli", *map(str, arguments)]


def run_command(
    *arguments: str | Path, env: Mapping[str, str] | None = None, stdin: bytes = b"", cwd: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs a command that ends by itself."""
    return subprocess.run(
        command(*arguments),
        input=stdin,
        capture_output=True,
        env=clean_environment(env),
        timeout=PATIENCE,
        check=False,
        cwd=cwd,
    )


def wait_until(condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
    """Polls until `condition` holds; fails the test when it never does."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise AssertionError(f"not within {patience:g} s: {what}")
        time.sleep(0.02)


def add_pipe(folder: Path) -> tuple[Path, bytes]:
    """A pipe among a bundle's files, and what has to be written into it before the bundle can be loaded."""
    pipe, content = folder / "pipe", b"all of it"
    described = json.loads((folder / "bundle.json").read_text("utf-8"))
    described["files"]["pipe"] = hashlib.sha256(content).hexdigest()
    (folder / "bundle.json").unlink()
    (folder / "bundle.json").write_text(json.dumps(described), "utf-8")
    os.mkfifo(pipe)
    return pipe, content


# A limit that a busy machine keeps to read and tokenise this, and by far too short to compute it.
HASTY = ("--request-timeout", "1", "--executors", "1")
TOO_MUCH = full_windows(200, 30_000)


class Server:
    """`embedserve serve` as a child process, with its output in files."""

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str],
        env: Mapping[str, str] | None = None,
        program: Sequence[str] = (),
        output: int | None = None,
    ) -> None:
        """`program` takes the place of the command line under test, and ends with it; the file descriptor `output`
        that of the files for stdout and stderr."""
        folder.mkdir(parents=True, exist_ok=True)
        self._stdout, self._stderr = folder / "stdout", folder / "stderr"
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(
                [*(program or command()), "serve", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout if output is None else output,
                stderr=stderr if output is None else output,
                env=clean_environment(env),
            )
        self.url = ""
        self.port = 0
        self.http = httpx.Client(timeout=PATIENCE, trust_env=False)

    def wait_ready(self) -> Server:
        """Until it says where it listens."""
        wait_until(lambda: self._announced() or self.process.poll() is not None, f"ready; {self.stderr()}")
        assert self._announced(), f"exit status {self.process.poll()}: {self.stderr()}"
        return self

    def _announced(self) -> bool:
        found = READY_LINE.search(self._stdout.read_text("utf-8"))
        if found:
            self.at(int(found["port"]), found["scheme"])
        return bool(found)

    def at(self, port: int, scheme: str = "http") -> None:
        """Sets where it listens, for a test that knows before it is announced."""
        self.port, self.url = port, f"{scheme}://127.0.0.1:{port}"
        self.http.base_url = httpx.URL(self.url)

    def wait_answering(self, port: int) -> Server:
        """Until it is ready at a port that it was told, whether or not it says so."""
        self.at(port)

        def is_ready() -> bool:
            assert self.process.poll() is None
            try:
                return self.http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        wait_until(is_ready, "readiness")
        return self

    def stdout(self) -> str:
        """All it has printed so far."""
        return self._stdout.read_text("utf-8")

    def stderr(self) -> str:
        """All it has logged so far."""
        return self._stderr.read_text("utf-8")

    def logged(self) -> list[dict[str, Any]]:
        """Its log lines so far, each of which must be a JSON object."""
        lines = [json.loads(line) for line in self.stderr().splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines

    def access_lines(self, request_id: str) -> list[dict[str, Any]]:
        """The log lines of one request; waits for the first, which is written after the reply."""

        def found() -> list[dict[str, Any]]:
            complete = self.stderr().rpartition("\n")[0].splitlines()
            lines = [json.loads(line) for line in complete]
            return [one for one in lines if one.get("request_id") == request_id and one["message"] == "request"]

        wait_until(lambda: bool(found()), f"an access line of {request_id}", patience=5)
        return found()

    def signal(self, number: signal.Signals) -> None:
        """To this very process."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit status."""
        return self.process.wait(timeout=PATIENCE)

    def stop(self) -> None:
        """Whatever state it is in."""
        self.http.close()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(timeout=15)

    def post(self, path: str, body: Any, **headers: str) -> httpx.Response:
        """A JSON body, or bytes as they are."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.post(path, content=content, headers={"content-type": "application/json", **named})

    def embed(self, value: Any, **fields: Any) -> Vectors:
        """Vectors of an OpenAI request that must succeed."""
        reply = self.post("/v1/embeddings", {"model": MODEL, "input": value, **fields})
        assert reply.status_code == 200, reply.text
        return openai_vectors(reply)

    def predict(self, *contents: str, path: str = VERTEX_MODEL, **parameters: Any) -> dict[str, Any]:
        """The body of a Vertex request that must succeed."""
        body = {"instances": [{"content": content} for content in contents], "parameters": parameters}
        reply = self.post(path, body)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a sample over all label values not given."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.http.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def assert_well(self) -> None:
        """It still answers, and rightly: a unit vector."""
        vectors = self.embed("Are you well?")
        assert vectors.shape == (1, DIMENSIONS)
        assert abs(float(np.linalg.norm(vectors[0])) - 1) < 1e-5


class Raw:
    """A socket for what no well-behaved client sends."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._received = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """All of it."""
        self.socket.sendall(data)

    def post(self, body: bytes, *headers: str, path: str = "/v1/embeddings") -> None:
        """A POST with Content-Length."""
        lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reply(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: status, headers, body."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        length = int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        return int(first.split()[1]), headers, body

    def closed_by_server(self) -> bool:
        """Whether nothing more comes; waits for it."""
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def _receive(self) -> None:
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the server closed the connection")
        self._received += data


def openai_vectors(reply: httpx.Response) -> Vectors:
    """(inputs, dimensions) of either wire form, with the envelope checked."""
    body = reply.json()
    assert set(body) == {"object", "data", "model", "usage"}
    assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
    rows = [one["embedding"] for one in body["data"]]
    decoded = [np.frombuffer(base64.b64decode(row), "<f4") if isinstance(row, str) else row for row in rows]
    return np.asarray(decoded, dtype=np.float32)


def vertex_vectors(body: dict[str, Any]) -> Vectors:
    """(instances, dimensions)."""
    return np.asarray([one["embeddings"]["values"] for one in body["predictions"]], dtype=np.float32)


def assert_openai_error(reply: httpx.Response, status: int, kind: str = "invalid_request_error") -> dict[str, Any]:
    """OpenAI's four keys, and at most `detail` beside them; returns them."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["x-request-id"]
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) - {"detail"} == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str)
    assert error["message"]
    assert error["type"] == kind
    assert error["code"] is None or isinstance(error["code"], str)
    return error


def assert_google_error(reply: httpx.Response, status: int, name: str = "INVALID_ARGUMENT") -> dict[str, Any]:
    """google.rpc.Status; returns it."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["x-request-id"]
    body = reply.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == {"code", "message", "status", "details"}
    assert error["code"] == status
    assert error["status"] == name
    assert isinstance(error["message"], str)
    assert error["message"]
    assert isinstance(error["details"], list)
    return error


def cosines(left: Vectors, right: Vectors) -> NDArray[np.float64]:
    """Row by row."""
    a, b = left.astype(np.float64), right.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return found
