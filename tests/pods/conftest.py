"""Pods of the real chart and the real image, on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deploy.image.base import NoStandIn
from deploy.image.build import build
from tests.chart.helm import NAMESPACE, render
from tests.e2e.process import wait_until
from tests.pods.deployment import Deployment
from tests.pods.kubelet import Node
from tests.pods.network import PodNetwork
from tests.pods.objects import Objects

IMAGE = "localhost/embedserve:pods"
LAG = 1.0  # seconds until a change of the endpoints is known everywhere
PATIENCE = 150.0
CLAIM, MODEL = "models", "minilm"

Values = Mapping[str, Any]
Render = Callable[..., Objects]
Deploy = Callable[..., Deployment]


def missing() -> str:
    """What pods need and this machine lacks; empty where it has all."""
    if os.geteuid():
        return "pods need root: networks of their own, and control groups"
    if absent := [
        one
        for one in ("podman", "buildah", "runc", "debootstrap", "ip")
        if not shutil.which(one, path=f"{os.environ['PATH']}:/usr/sbin")
    ]:
        return f"{', '.join(absent)} not installed: `make pod-test` does it"
    try:
        PodNetwork().remove()
    except subprocess.CalledProcessError as error:
        return f"this kernel allows no network namespace: {error.stderr}"
    return ""


@pytest.fixture(scope="session")
def image() -> str:
    """Its name in podman's storage: the Dockerfile's of this very state, on the stand-in base."""
    if reason := missing():
        pytest.skip(reason)
    try:
        build(IMAGE)
    except NoStandIn as error:
        pytest.skip(str(error))
    return IMAGE


@pytest.fixture(scope="session")
def claims(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A claim with the real model in a folder `minilm`. A copy: the kubelet gives claims to the pod's group."""
    folder = tmp_path_factory.mktemp("claim")
    folder.chmod(0o755)
    shutil.copytree(bundle, folder / MODEL)
    return {CLAIM: folder}


@pytest.fixture(scope="session")
def rendered(image: str) -> Render:
    """rendered({values}) → what the chart makes of them, with the image under test and the model in a claim."""

    def made(values: Values | None = None) -> Objects:
        repository, _, tag = image.rpartition(":")
        common = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "Never"},
            "modelSource": {"type": "pvc", "pvc": {"claimName": CLAIM}},
            "model": {"name": MODEL},
            "drain": {"graceSeconds": 4, "timeoutSeconds": 30},
        }
        return Objects(render(_over(common, values or {}), extra=["--no-hooks"]))

    return made


def _over(common: Values, values: Values) -> dict[str, Any]:
    """Tables within tables are merged, as Helm does it."""
    both = {
        name: _over(common[name], values[name]) for name in common.keys() & values.keys() if _is_table(values[name])
    }
    return {**common, **values, **both}


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


@pytest.fixture(scope="module")
def deploy(rendered: Render, claims: Mapping[str, Path]) -> Iterator[Deploy]:
    """deploy({values}, replicas=1, ready=True) → Deployment, removed when the module's tests are over."""
    made: list[tuple[Deployment, Node]] = []

    def start(values: Values | None = None, replicas: int = 1, ready: bool = True, lag: float = LAG) -> Deployment:
        node = Node(claims, namespace=NAMESPACE)
        deployment = Deployment(rendered(values), node, lag, replicas)
        made.append((deployment, node))
        if ready:
            wait_until(deployment.ready, "ready pods", PATIENCE)
        return deployment

    yield start
    for deployment, node in made:
        deployment.remove()
        print(node.transcript)
        node.remove()
