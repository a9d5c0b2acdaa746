"""The real chart, the real image and the real model, as a release of them on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.image.build import build
from tests.chart.helm import render
from tests.pods.network import PodNetwork
from tests.pods.objects import Object, Objects

CLAIM, MODEL = "models", "minilm"
_IMAGE, _TAG = "localhost/embedserve", "pods"
_PROGRAMS = ("podman", "buildah", "runc", "debootstrap", "ip")
_COMMON = {
    "image": {"repository": _IMAGE, "tag": _TAG, "pullPolicy": "Never"},
    "modelSource": {"type": "pvc", "pvc": {"claimName": CLAIM}},
    "model": {"name": MODEL},
    "drain": {"graceSeconds": 4, "timeoutSeconds": 30},
    "settings": {"request_timeout": 30},
}

Values = Mapping[str, Any]


def missing() -> str:
    """What pods need and this machine lacks; empty where it has all."""
    if os.geteuid():
        return "pods need root: networks of their own, and control groups"
    path = f"{os.environ['PATH']}:/usr/sbin"
    if absent := [name for name in _PROGRAMS if not shutil.which(name, path=path)]:
        return f"{', '.join(absent)} not installed: `make pod-test` does it"
    try:
        PodNetwork().remove()
    except subprocess.CalledProcessError as error:
        return f"this kernel allows no network namespace: {error.stderr}"
    return ""


def build_image() -> None:
    """The Dockerfile's of this very state, on the stand-in base. Raises NoStandIn and BuildFailed."""
    build(f"{_IMAGE}:{_TAG}")


def fill_claim(folder: Path, bundle: Path) -> Mapping[str, Path]:
    """A claim with a copy of the bundle: the kubelet may give claims to the pod's group."""
    folder.chmod(0o755)
    shutil.copytree(bundle, folder / MODEL)
    return {CLAIM: folder}


def rendered(values: Values | None = None) -> Objects:
    """What the chart makes of these values over those of every test, without its hooks. Raises Refused."""
    return Objects(render(_over(_COMMON, values or {}), extra=["--no-hooks"]))


def smoke_test(values: Values | None = None) -> Object:
    """The pod that `helm test` starts. Raises Refused."""
    (found,) = Objects(render(_over(_COMMON, values or {}))).of_kind("Pod")
    return found


def _over(common: Values, values: Values) -> dict[str, Any]:
    """Tables within tables are merged, as Helm does it."""
    tables = [name for name in common.keys() & values.keys() if isinstance(values[name], Mapping)]
    return {**common, **values, **{name: _over(common[name], values[name]) for name in tables}}
