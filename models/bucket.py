"""A folder of Google Cloud Storage → a folder of the cache: bundles and checkpoints that Vertex AI names by gs://….

By the JSON API (https://cloud.google.com/storage/docs/json_api), without Google's libraries. The token is that of the
machine's service account, from its metadata server; where there is none, nobody's, which opens public buckets. As in
Google's own libraries GCE_METADATA_HOST and STORAGE_EMULATOR_HOST name other servers.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar
from urllib.parse import quote, urlencode

from models.sources import Say
from models.staging import staged
from service.errors import SourceError

SCHEME = "gs://"
_TOKEN = "/computeMetadata/v1/instance/service-accounts/default/token"
_ATTEMPTS = 4
_PAUSE = 0.5  # seconds, twice as long each time
_SECONDS = 60.0  # without a byte
_PROBE_SECONDS = 3.0
_BLOCK = 1 << 20
_MAY_PASS = {408, 429, 500, 502, 503, 504}

Found = TypeVar("Found")


@dataclass(frozen=True)
class _Object:
    """A file of the folder: `path` below it, `generation` changes with its content, `md5` in base64 where known."""

    name: str
    path: str
    generation: str
    size: int
    md5: str | None


def bring(uri: str, cache_dir: Path, say: Say) -> Path:
    """The folder's files in a folder of the cache, fetched if that very content is not there yet.

    It has the name of the URI's last part. Raises SourceError, and StartupError where the disk is full.
    """
    bucket, _, prefix = uri.removeprefix(SCHEME).strip("/").partition("/")
    if not bucket or {"", ".", ".."} & set(uri.removeprefix(SCHEME).strip("/").split("/")):
        raise SourceError(f"{uri} names no folder of a bucket", "write it like gs://BUCKET/FOLDER")
    headers = _authorization()
    try:
        found = sorted(_listed(bucket, prefix, headers), key=lambda one: one.path)
        _refuse_files_below_files({one.path for one in found})
        if not found:
            raise SourceError(
                f"{uri} holds no file", "name the folder that has bundle.json, or a checkpoint's config.json"
            )
        content = "\n".join(f"{one.path} {one.generation}" for one in found)
        key = hashlib.sha256(f"{uri}\n{content}".encode()).hexdigest()[:16]
        final = cache_dir / "buckets" / key / (PurePosixPath(prefix).name or bucket)
        if not final.is_dir():
            say(f"fetching {sum(one.size for one in found):,} bytes from {uri}")
            with staged(final, replace=False) as folder:
                for one in found:
                    _fetch(bucket, one, folder / one.path, headers)
    except urllib.error.HTTPError as error:
        raise SourceError(
            f"{uri} could not be read: status {error.code} ({error.reason})", _remedy(error.code)
        ) from error
    except _TROUBLES as error:
        raise SourceError(f"{uri} could not be read: {error}", "try again, or look at the network's rules") from error
    return final


class _Broken(Exception):
    """What came is not what was listed."""


_TROUBLES = (
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    ssl.SSLError,
    urllib.error.URLError,
    _Broken,
)
"""Of the network, and not of the disk."""


def _remedy(status: int) -> str:
    if status in (401, 403):
        return "give the service account that runs this the role roles/storage.objectViewer on the bucket"
    return "check the bucket's name and the path"


def _authorization() -> dict[str, str]:
    host = os.environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
    asked = urllib.request.Request(f"http://{host}{_TOKEN}", headers={"Metadata-Flavor": "Google"})
    try:
        with _DIRECT.open(asked, timeout=_PROBE_SECONDS) as reply:
            return {"Authorization": f"Bearer {json.load(reply)['access_token']}"}
    except (OSError, ValueError, KeyError, http.client.HTTPException):
        return {}


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""The metadata server is on the machine's own link, and no proxy's business."""


def _listed(bucket: str, prefix: str, headers: Mapping[str, str]) -> Iterator[_Object]:
    """Files below the prefix, page by page. Raises SourceError where a name would lead out of the folder."""
    folder = f"{prefix}/" if prefix else ""
    asked = {"prefix": folder, "fields": "nextPageToken,items(name,generation,size,md5Hash)"}
    while True:
        where = f"/storage/v1/b/{quote(bucket, safe='')}/o?{urlencode(asked)}"
        found, following = _patiently(partial(_page, where, folder, headers))
        yield from found
        if following is None:
            return
        if following == asked.get("pageToken"):
            raise _Broken("the list of files has no end")
        asked["pageToken"] = following


def _page(where: str, folder: str, headers: Mapping[str, str]) -> tuple[list[_Object], str | None]:
    """Its files, and the token of the next page."""
    try:
        with _open(where, headers) as reply:
            page: dict[str, Any] = json.load(reply)
        found = [
            _Object(name, name.removeprefix(folder), one["generation"], int(one["size"]), one.get("md5Hash"))
            for one in page.get("items", [])
            if not (name := one["name"]).endswith("/")
        ]
        following = page.get("nextPageToken")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Broken("what answered is no list of Cloud Storage") from error
    for one in found:
        _refuse_to_leave(one.path)
    return found, following


def _refuse_to_leave(path: str) -> None:
    if set(path.split("/")) & {"", ".", ".."} or set(path) & set("\\\0"):
        raise SourceError(
            f"the bucket has an object named {path!r}, which is no plain path", "remove it from the bucket"
        )


def _refuse_files_below_files(paths: set[str]) -> None:
    for path in sorted(paths):
        for parent in map(str, PurePosixPath(path).parents):
            if parent in paths:
                raise SourceError(
                    f"the bucket has the objects {parent!r} and {path!r}, which no folder can hold together",
                    "remove one of them from the bucket",
                )


def _fetch(bucket: str, one: _Object, path: Path, headers: Mapping[str, str]) -> None:
    """That generation of it, compared with its size and hash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    where = f"/storage/v1/b/{quote(bucket, safe='')}/o/{quote(one.name, safe='')}"
    asked = urlencode({"alt": "media", "generation": one.generation})
    _patiently(partial(_fetch_once, f"{where}?{asked}", one, path, headers))


def _fetch_once(where: str, one: _Object, path: Path, headers: Mapping[str, str]) -> None:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    with _open(where, headers) as reply, path.open("wb") as file:
        while block := reply.read(_BLOCK):
            file.write(block)
            digest.update(block)
            size += len(block)
    if size != one.size or one.md5 not in (None, base64.b64encode(digest.digest()).decode()):
        raise _Broken(f"{one.name} came broken: {size} of {one.size} bytes, or others than were listed")


def _open(path: str, headers: Mapping[str, str]) -> BinaryIO:
    """An answer with status 200. Raises HTTPError, URLError."""
    endpoint = (os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com").rstrip("/")
    asked = urllib.request.Request((endpoint if "://" in endpoint else f"http://{endpoint}") + path)
    for name, value in headers.items():
        asked.add_unredirected_header(name, value)  # the token is nobody's business but the storage's
    reply: BinaryIO = urllib.request.urlopen(asked, timeout=_SECONDS)
    return reply


def _patiently(ask: Callable[[], Found]) -> Found:
    """What may pass is tried again: a status, and whatever breaks on its way."""
    for attempt in range(_ATTEMPTS):
        try:
            return ask()
        except _TROUBLES as error:
            passing = not isinstance(error, urllib.error.HTTPError) or error.code in _MAY_PASS
            if not passing or attempt + 1 == _ATTEMPTS:
                raise
            time.sleep(_PAUSE * 2**attempt)
    raise AssertionError("unreachable")
