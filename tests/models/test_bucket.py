"""gs://BUCKET/FOLDER, by a server that answers as Cloud Storage's JSON API and the metadata server do."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest

from models import bucket
from models.bucket import bring
from service.errors import SourceError
from tests.conftest import Golden, StartServer
from tests.e2e.process import run_command, vertex_vectors

TOKEN = "t0ken"


class Cloud(ThreadingHTTPServer):
    """`objects`: name → content. Two names a page. `troubles`: statuses of the next answers from the bucket.
    So many of the next files as `breaks` says end in their middle."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.troubles: list[int] = []
        self.fetched: list[str] = []
        self.spoil = False
        self.breaks = 0
        self.elsewhere = ""  # where the bucket has moved
        self.page: bytes | None = None  # in place of a list

    @property
    def variables(self) -> dict[str, str]:
        host = f"127.0.0.1:{self.server_port}"
        return {"GCE_METADATA_HOST": host, "STORAGE_EMULATOR_HOST": f"http://{host}"}


class _Handler(BaseHTTPRequestHandler):
    server: Cloud

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        given = {key: values[0] for key, values in parse_qs(url.query).items()}
        if url.path.startswith("/computeMetadata/"):
            self._answer(200 if self.headers["Metadata-Flavor"] == "Google" else 403, {"access_token": TOKEN})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {})
        elif self.server.elsewhere:
            self.send_response(302)
            self.send_header("location", self.server.elsewhere + self.path)
            self.end_headers()
        elif self.server.page is not None:
            self._answer(200, self.server.page)
        elif self.server.troubles:
            self._answer(self.server.troubles.pop(0), {})
        elif url.path == "/storage/v1/b/models/o":
            self._list(given)
        elif url.path.startswith("/storage/v1/b/models/o/"):
            name = unquote(url.path.removeprefix("/storage/v1/b/models/o/"))
            assert given == {"alt": "media", "generation": _generation(self.server.objects[name])}
            self.server.fetched.append(name)
            self._answer(200, self.server.objects[name][::-1] if self.server.spoil else self.server.objects[name])
        else:
            self._answer(404, {})

    def _list(self, given: dict[str, str]) -> None:
        names = sorted(name for name in self.server.objects if name.startswith(given["prefix"]))
        first = int(given.get("pageToken", 0))
        page: dict[str, object] = {"items": [self._described(name) for name in names[first : first + 2]]}
        if first + 2 < len(names):
            page["nextPageToken"] = str(first + 2)
        self._answer(200, page if names else {})

    def _described(self, name: str) -> dict[str, str]:
        content = self.server.objects[name]
        md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        return {"name": name, "generation": _generation(content), "size": str(len(content)), "md5Hash": md5}

    def _answer(self, status: int, body: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        if isinstance(body, bytes) and self.server.breaks:
            self.server.breaks -= 1
            content = content[: len(content) // 2]
        self.wfile.write(content)


def _generation(content: bytes) -> str:
    return str(int(hashlib.sha256(content).hexdigest()[:12], 16))


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setattr(bucket, "_PAUSE", 0.01)
    with Cloud() as server:
        for name, value in server.variables.items():
            monkeypatch.setenv(name, value)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _quiet(line: str) -> None:
    """Says nothing."""


def test_a_folder_comes_whole_and_once(cloud: Cloud, tmp_path: Path) -> None:
    files = {"a": b"1", "b/c d": b"", "b/ü.json": b"3", "b/": b"", "z": b"x" * 3_000_000}
    cloud.objects = {f"some/mine/{name}": content for name, content in files.items()} | {"some/mine2": b"another"}
    cloud.troubles = [503, 429]
    folder = bring("gs://models/some/mine/", tmp_path, _quiet)
    assert folder.name == "mine"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {name: content for name, content in files.items() if name != "b/"}
    assert len(cloud.fetched) == 4
    assert bring("gs://models/some/mine/", tmp_path, _quiet) == folder
    assert len(cloud.fetched) == 4


def test_what_has_changed_is_another_folder(cloud: Cloud, tmp_path: Path) -> None:
    cloud.objects = {"mine/a": b"1"}
    before = bring("gs://models/mine", tmp_path, _quiet)
    cloud.objects = {"mine/a": b"2"}
    after = bring("gs://models/mine", tmp_path, _quiet)
    assert ((before / "a").read_bytes(), (after / "a").read_bytes()) == (b"1", b"2")


@pytest.mark.parametrize("name", ["../a", "b/../../a", "b//a", "./a", "..\\a"])
def test_no_name_leads_out_of_the_folder(cloud: Cloud, tmp_path: Path, name: str) -> None:
    cloud.objects = {f"mine/{name}": b"1"}
    with pytest.raises(SourceError, match="no plain path"):
        bring("gs://models/mine", tmp_path, _quiet)
    assert cloud.fetched == []


def test_what_breaks_is_tried_again(cloud: Cloud, tmp_path: Path) -> None:
    cloud.objects, cloud.breaks = {"mine/a": b"1" * 100, "mine/b": b"2" * 3_000_000}, 3
    folder = bring("gs://models/mine", tmp_path, _quiet)
    assert {f"mine/{path.name}": path.read_bytes() for path in folder.iterdir()} == cloud.objects
    assert cloud.fetched == ["mine/a"] * 4 + ["mine/b"]


def test_what_breaks_again_and_again_is_given_up(cloud: Cloud, tmp_path: Path) -> None:
    cloud.objects, cloud.breaks = {"mine/a": b"1" * 100}, 99
    with pytest.raises(SourceError, match="came broken: 50 of 100 bytes"):
        bring("gs://models/mine", tmp_path, _quiet)
    assert len(cloud.fetched) == 4


@pytest.mark.parametrize("below", ["a/b", "a/b/c"])
def test_a_file_and_files_below_it_are_refused(cloud: Cloud, tmp_path: Path, below: str) -> None:
    cloud.objects = {"mine/a": b"1", f"mine/{below}": b"2"}
    with pytest.raises(SourceError, match=f"'a' and '{below}', which no folder can hold together"):
        bring("gs://models/mine", tmp_path, _quiet)
    assert cloud.fetched == []


def test_what_comes_broken_is_not_kept(cloud: Cloud, tmp_path: Path) -> None:
    cloud.objects, cloud.spoil = {"mine/a": b"12"}, True
    with pytest.raises(SourceError, match="came broken"):
        bring("gs://models/mine", tmp_path, _quiet)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("uri", "troubles", "words"),
    [
        ("gs://models/nothing", [], "holds no file"),
        ("gs://nowhere/mine", [], "status 404"),
        ("gs://models/mine", [403], "roles/storage.objectViewer"),
        ("gs://models/mine", [500] * 9, "status 500"),
    ],
)
def test_what_cannot_be_read_is_refused(
    cloud: Cloud, tmp_path: Path, uri: str, troubles: list[int], words: str
) -> None:
    cloud.objects, cloud.troubles = {"mine/a": b"1"}, troubles
    with pytest.raises(SourceError, match=words):
        bring(uri, tmp_path, _quiet)


def test_without_a_service_account_it_asks_as_nobody(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    cloud.objects = {"mine/a": b"1"}
    with pytest.raises(SourceError, match="status 401"):
        bring("gs://models/mine", tmp_path, _quiet)


def test_vertex_names_a_bundle_in_a_bucket(
    cloud: Cloud, bundle: Path, golden: Golden, start_server: StartServer, tmp_path: Path
) -> None:
    """AIP_STORAGE_URI, as Vertex AI sets it where the model was uploaded with an artifact URI."""
    cloud.objects = {f"mine/{path.name}": path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    routes = {"AIP_HTTP_PORT": "1", "AIP_PREDICT_ROUTE": "/vertex/predict", "AIP_HEALTH_ROUTE": "/vertex/health"}
    own = {"EMBEDSERVE_HOST": "127.0.0.1", "EMBEDSERVE_CACHE_DIR": str(tmp_path), "AIP_STORAGE_URI": "gs://models/mine"}
    server = start_server(env={**cloud.variables, **routes, **own}, no_model=True)
    assert server.http.get("/vertex/health").status_code == 200
    found = vertex_vectors(server.predict(golden.texts[0], path="/vertex/predict"))
    assert np.abs(found - golden.vectors[:1]).max() <= 1e-4
    assert set(cloud.fetched) == set(cloud.objects)


def test_a_bucket_that_cannot_be_read_ends_the_start(cloud: Cloud, tmp_path: Path) -> None:
    """Never another model in its place."""
    env = {**cloud.variables, "AIP_STORAGE_URI": "gs://models/mine", "EMBEDSERVE_CACHE_DIR": str(tmp_path)}
    done = run_command("serve", "--port", "0", env=env)
    assert done.returncode == 1
    assert b"gs://models/mine holds no file" in done.stderr


def test_the_token_does_not_go_where_a_redirect_leads(cloud: Cloud, tmp_path: Path) -> None:
    """There it would be answered with the files."""
    cloud.objects = {"m/a": b"1"}
    with Cloud() as other:
        other.objects = cloud.objects
        thread = threading.Thread(target=other.serve_forever)
        thread.start()
        cloud.elsewhere = f"http://localhost:{other.server_port}"
        with pytest.raises(SourceError, match="status 401"):
            bring("gs://models/m", tmp_path, _quiet)
        other.shutdown()
        thread.join()


@pytest.mark.parametrize(
    "page",
    [b"<html>", b"[]", b'{"items": [{"name": "m/a"}]}', b'{"items": [], "nextPageToken": "again"}'],
)
def test_what_is_no_list_is_refused(cloud: Cloud, tmp_path: Path, page: bytes) -> None:
    cloud.page = page
    with pytest.raises(SourceError, match="could not be read"):
        bring("gs://models/m", tmp_path, _quiet)


@pytest.mark.parametrize("uri", ["gs://", "gs:///", "gs://models/..", "gs://models/a//b"])
def test_what_names_no_folder_is_refused_unasked(tmp_path: Path, uri: str) -> None:
    with pytest.raises(SourceError, match="names no folder"):
        bring(uri, tmp_path, _quiet)


def test_another_storage_may_be_named_without_a_scheme(
    cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"127.0.0.1:{cloud.server_port}")
    cloud.objects = {"m/a": b"1"}
    assert (bring("gs://models/m", tmp_path, _quiet) / "a").read_bytes() == b"1"
