"""The rendered pod from its start to its end, with nothing left out of what the chart says of it."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import Golden
from tests.e2e.process import MODEL, cosines, openai_vectors, wait_until
from tests.pods import groups
from tests.pods.conftest import PATIENCE, Deploy
from tests.pods.deployment import Deployment
from tests.pods.kubelet import Node, Pod
from tests.pods.objects import Objects
from tests.pods.release import rendered, smoke_test
from tests.rolling.load import CLIENTS, Load, steady

pytestmark = [pytest.mark.image, pytest.mark.timeout(400)]

REPLICAS = 2


@pytest.fixture(scope="module")
def deployment(deploy: Deploy) -> Deployment:
    """Two pods behind a Service, with the chart's own limits; each test leaves them ready."""
    return deploy(replicas=REPLICAS)


def settle(load: Load) -> None:
    """Until it has had some more answers."""
    goal = load.answered + 4 * CLIENTS
    wait_until(lambda: load.answered >= goal, f"answers; failed: {load.failures}", PATIENCE)


def test_a_pod_serves_right_vectors_under_its_rendered_limits(deployment: Deployment, golden: Golden) -> None:
    texts = golden.texts[:8]
    reply = httpx.post(f"{deployment.service.url}/v1/embeddings", json={"model": MODEL, "input": texts}, timeout=60)
    assert reply.status_code == 200, reply.text
    assert cosines(openai_vectors(reply), golden.vectors[:8]).min() >= 0.999999
    pid = deployment.pods[0].container().container.pid
    status = groups.process_status(pid)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"10001"}
    assert status["Groups"].split() == ["10001"]
    assert {status[f"Cap{kind}"] for kind in ("Eff", "Prm", "Inh", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert groups.memory_limit(pid) == 2**30
    assert groups.cores(pid) == 2


def test_helm_test_gets_a_vector_through_the_service(deployment: Deployment) -> None:
    """The hook's own pod, under its own security context and limits, finds the Service by its name."""
    asking = rendered().find("Service", "emb-embedserve")
    assert asking is not None
    node = Node(services={("emb-embedserve", asking["spec"]["ports"][0]["port"]): deployment.service})
    pod = Pod(smoke_test(), Objects([]), node).start()
    try:
        wait_until(lambda: bool(pod.container().statuses), "the end of the test", PATIENCE)
        assert pod.container().statuses == [0], pod.container().logs()
        assert "384 numbers" in pod.container().logs()
    finally:
        pod.delete(grace=0)
        wait_until(pod.gone.is_set, "its end", PATIENCE)
        node.remove()


def test_a_deleted_pod_loses_nothing(deployment: Deployment, golden: Golden) -> None:
    """Its end is its own: within the grace, without SIGKILL."""
    first = deployment.pods[0]
    with steady([deployment.service.url], golden) as (load,):
        settle(load)
        deployment.delete(first)
        wait_until(first.gone.is_set, "the end of the pod", PATIENCE)
        wait_until(deployment.ready, "its successor", PATIENCE)
        settle(load)
    assert load.failures == []
    assert first.container().statuses == [0]
    assert "embedserve: SIGKILL" not in deployment.transcript.of(first.name)


def test_a_rolling_update_loses_nothing(deployment: Deployment, golden: Golden) -> None:
    """One pod more at a time, and never one less."""
    old = list(deployment.pods)
    with steady([deployment.service.url], golden) as (load,):
        settle(load)
        deployment.roll(rendered({"podAnnotations": {"version": "next"}}), PATIENCE)
        wait_until(deployment.ready, "the new endpoints", PATIENCE)
        settle(load)
    assert load.failures == []
    assert deployment.least_ready == REPLICAS
    assert [pod.container().statuses for pod in old] == [[0], [0]]
    assert not set(old) & set(deployment.pods)


def test_without_the_grace_a_deleted_pod_would_lose_requests(deploy: Deploy, golden: Golden) -> None:
    """So what the others show is not for want of load: connections still come until every node knows."""
    deployment = deploy({"drain": {"graceSeconds": 0}}, lag=5.0)
    (pod,) = deployment.pods
    with steady([deployment.service.url], golden) as (load,):
        settle(load)
        deployment.delete(pod)
        wait_until(lambda: bool(load.failures), "a request that is lost", PATIENCE)
    assert pod.container().statuses in ([], [0])
