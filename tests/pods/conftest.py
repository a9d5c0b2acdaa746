"""Pods of the real chart and the real image, on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from deploy.image.base import NoStandIn
from tests.chart.helm import NAMESPACE
from tests.e2e.process import wait_until
from tests.pods.deployment import Deployment
from tests.pods.kubelet import Node
from tests.pods.release import Values, build_image, fill_claim, missing, rendered

LAG = 1.0  # seconds until a change of the endpoints is known everywhere
PATIENCE = 150.0

Deploy = Callable[..., Deployment]


@pytest.fixture(scope="session")
def claims(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """A claim with the real model, on a machine that has the image and can run it."""
    if reason := missing():
        pytest.skip(reason)
    try:
        build_image()
    except NoStandIn as error:
        pytest.skip(str(error))
    return fill_claim(tmp_path_factory.mktemp("claim"), bundle)


@pytest.fixture(scope="module")
def deploy(claims: Mapping[str, Path]) -> Iterator[Deploy]:
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
