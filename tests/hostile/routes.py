"""Every route of the server, as its own document lists them, and requests to them made up from a seed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from tests.hostile.seeds import HEADERS, NAMES, ODD_NAMES, RAW, bodies_for, mutated
from tests.hostile.target import ADMIN_KEY, Target

ALLOWED = {200, 400, 401, 404, 405, 413, 422, 424, 499}
"""Of one idle server: 408, 429 and 5xx are not due. 424 is TEI's for a model of another kind."""


@dataclass(frozen=True)
class Route:
    """`path` is a template."""

    method: str
    path: str


@dataclass(frozen=True)
class Sent:
    """A request and what came back."""

    route: Route
    path: str
    body: bytes
    headers: dict[str, str]
    reply: httpx.Response


def routes_of(target: Target) -> list[Route]:
    """By the OpenAPI document; those of administrators are in it."""
    paths = target.server.http.get("/openapi.json").json()["paths"]
    return [Route(method.upper(), path) for path, item in paths.items() for method in item]


def send_one(target: Target, routes: Sequence[Route], rng: random.Random) -> Sent:
    """To a route picked by `rng`, as its good body was spoilt."""
    route = rng.choice(routes)
    names = ODD_NAMES if "/repository/" in route.path else NAMES  # or the server would be left without a model
    path = re.sub(r"{\w+}", lambda _: rng.choice(names), route.path)
    if rng.random() < 0.1:
        path += rng.choice(["?key=&a=%ff", "?" + "a=b&" * 300, "/", "%0a", ":predict", "?%24alt=json"])
    headers = dict(rng.choice(HEADERS)) if rng.random() < 0.2 else {}
    if "/repository/" in path:
        headers.setdefault("authorization", f"Bearer {ADMIN_KEY}")
    body = b""
    if route.method == "POST":
        good = bodies_for(route.path)
        body = rng.choice(RAW) if rng.random() < 0.1 or not good else mutated(rng.choice(good), rng)
    method = route.method if rng.random() < 0.97 else rng.choice(["GET", "POST", "PUT", "OPTIONS", "HEAD", "DELETE"])
    return Sent(route, path, body, headers, target.send(method, path, body, headers))


def faults_of(sent: Sent) -> list[str]:
    """What is wrong with the answer, if anything."""
    reply, found = sent.reply, []
    if reply.status_code not in ALLOWED:
        found.append(f"status {reply.status_code}")
    if "x-request-id" not in reply.headers:
        found.append("no x-request-id")
    if reply.status_code >= 400 and reply.request.method != "HEAD":
        found += _faults_of_error(reply)
    return [
        f"{one}: {reply.request.method} {sent.path} {sent.body[:300]!r} {sent.headers} → {reply.text[:300]}"
        for one in found
    ]


def _faults_of_error(reply: httpx.Response) -> list[str]:
    if not reply.headers["content-type"].startswith("application/json"):
        return ["an error that is no JSON"]
    said = reply.json()
    faults = [] if isinstance(said, dict) and said.keys() & {"error", "message"} else ["an error of no dialect"]
    if set(said) == {"detail"}:
        faults.append("FastAPI's own error")
    if reply.status_code != 401 and ADMIN_KEY in reply.text:
        faults.append("a key in an error")
    return faults
