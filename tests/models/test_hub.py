"""The real huggingface_hub client against a small hub of our own on this machine."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from models import hub
from models.catalogue import HubSource, Unusable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "organisation/tiny"


class Hub(ThreadingHTTPServer):
    """Serves `files` as one repository; `paths` are the files that were downloaded."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.downloaded: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        resolve = f"/{REPOSITORY}/resolve/{COMMIT}/"
        name = path.removeprefix(resolve)
        if path == f"/api/models/{REPOSITORY}/revision/main":
            siblings = [{"rfilename": name} for name in self.server.files]
            self._send(json.dumps({"_id": "1", "id": REPOSITORY, "sha": COMMIT, "siblings": siblings}).encode())
        elif path == f"/api/models/{REPOSITORY}/tree/{COMMIT}":
            files = self.server.files.items()
            self._send(
                json.dumps([{"type": "file", "path": n, "size": len(c), "oid": _etag(c)} for n, c in files]).encode()
            )
        elif path.startswith(resolve) and name in self.server.files:
            if self.command == "GET":
                self.server.downloaded.append(name)
            self._send(self.server.files[name])
        else:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

    def _send(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.send_header("etag", f'"{_etag(content)}"')
        self.send_header("x-repo-commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Listening, and known to the client as the hub, with a download cache of the test's own."""
    server = Hub()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(folder: Path) -> list[str]:
    folder.mkdir()
    hub.download(HubSource(repository=REPOSITORY), folder)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


FILES = {
    "config.json": b"{}",
    "1_Pooling/config.json": b"{}",
    "pytorch_model.bin": b"pickle",
    "onnx/model.onnx": b"graph",
    "onnx/model.onnx_data": b"weights",
    "onnx/model_O4.onnx": b"other",
    "tf_model.h5": b"other",
}


def test_weights_are_preferred_and_pickles_left(server: Hub, tmp_path: Path) -> None:
    server.files = FILES | {"model.safetensors": b"weights"}
    assert fetched(tmp_path / "folder") == ["1_Pooling/config.json", "config.json", "model.safetensors"]
    assert (tmp_path / "folder" / "model.safetensors").read_bytes() == b"weights"
    assert not (tmp_path / "folder" / "model.safetensors").is_symlink()
    assert "pytorch_model.bin" not in server.downloaded


def test_without_weights_the_graph_is_fetched(server: Hub, tmp_path: Path) -> None:
    server.files = FILES
    assert fetched(tmp_path / "folder") == [
        "1_Pooling/config.json",
        "config.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
    ]


def test_what_was_downloaded_before_serves_offline(
    server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = FILES | {"model.safetensors": b"weights"}
    first = fetched(tmp_path / "first")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(server.downloaded)
    assert fetched(tmp_path / "second") == first
    assert len(server.downloaded) == asked


def test_a_repository_that_does_not_exist(server: Hub, tmp_path: Path) -> None:
    with pytest.raises(Unusable, match="404") as raised:
        hub.download(HubSource(repository="organisation/other"), tmp_path)
    assert "\n" not in str(raised.value)


def test_nobody_listening(server: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unusable, match=r"unreachable \("):
        fetched(tmp_path / "folder")
