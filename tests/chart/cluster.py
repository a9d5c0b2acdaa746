"""An API server of a few objects, as much of one as Helm's `lookup` asks.

Wire shapes: Kubernetes' API conventions (discovery by /api and /apis, objects by path, 404 as a Status).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

_KINDS = {
    "v1": ("Secret", "ConfigMap", "Service", "ServiceAccount", "Pod"),
    "apps/v1": ("Deployment",),
    "networking.k8s.io/v1": ("NetworkPolicy",),
    "policy/v1": ("PodDisruptionBudget",),
}


def _resources(version: str) -> dict[str, Any]:
    names = [(kind, f"{kind.lower()}s".replace("ys", "ies")) for kind in _KINDS[version]]
    about = [{"name": name, "namespaced": True, "kind": kind, "verbs": ["get", "list"]} for kind, name in names]
    return {"kind": "APIResourceList", "groupVersion": version, "resources": about}


def _group(version: str) -> dict[str, Any]:
    served = {"groupVersion": version, "version": version.partition("/")[2]}
    return {"name": version.partition("/")[0], "versions": [served], "preferredVersion": served}


_GROUPS = [version for version in _KINDS if "/" in version]
_DISCOVERY: dict[str, Any] = {
    "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/api/v1": _resources("v1"),
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(one) for one in _GROUPS]},
    **{f"/apis/{one}": _resources(one) for one in _GROUPS},
}
_NONE = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}


@contextmanager
def cluster(namespace: str, secrets: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Its address, while it has these Secrets (names to keys and values), and what every namespace has."""
    root = f"/api/v1/namespaces/{namespace}"
    known = {
        **_DISCOVERY,
        f"{root}/configmaps/kube-root-ca.crt": _object("ConfigMap", "kube-root-ca.crt", namespace),
        **{
            f"{root}/secrets/{name}": _object("Secret", name, namespace)
            | {"data": {key: b64encode(value.encode()).decode() for key, value in data.items()}}
            for name, data in secrets.items()
        },
    }

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = known.get(self.path.partition("?")[0])
            written = json.dumps(found or _NONE).encode()
            self.send_response(200 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(written)))
            self.end_headers()
            self.wfile.write(written)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test tells what failed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _object(kind: str, name: str, namespace: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": namespace}}
