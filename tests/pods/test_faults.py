"""What goes wrong in a pod, and what is done about it by its rendered probes."""

from __future__ import annotations

import httpx
import pytest

from tests.e2e.process import wait_until
from tests.pods.conftest import PATIENCE, Deploy

pytestmark = [pytest.mark.image, pytest.mark.timeout(400)]

SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "clients"},
    "stringData": {"keys": "a-key-of-the-test\n"},
}


def test_a_hung_server_is_restarted_by_its_liveness_probe(deploy: Deploy) -> None:
    """It is stopped as a debugger stops it: it answers nobody, and no signal ends it but SIGKILL."""
    liveness = {"periodSeconds": 1, "timeoutSeconds": 1, "failureThreshold": 3, "terminationGracePeriodSeconds": 3}
    deployment = deploy({"probes": {"liveness": liveness}})
    server = deployment.pods[0].container()
    server.container.kill("STOP")
    wait_until(lambda: server.statuses == [137], "its end", PATIENCE)
    wait_until(deployment.ready, "its next run", PATIENCE)
    assert server.restarts == 1
    said = [what for what in deployment.transcript.of(deployment.pods[0].name) if "probe failed" in what]
    assert len(said) == 1
    assert "liveness" in said[0]
    assert httpx.post(f"{deployment.service.url}/v1/embeddings", json={"input": "again"}).status_code == 200


def test_a_pod_without_its_model_never_becomes_ready_and_says_why(deploy: Deploy) -> None:
    deployment = deploy({"model": {"name": "no-such-model"}}, ready=False)
    server = deployment.pods[0].container()
    wait_until(lambda: "CrashLoopBackOff" in server.waiting, "the kubelet to give it time", PATIENCE)
    assert 0 not in server.statuses
    assert "/models/no-such-model" in server.logs()
    assert deployment.service.endpoints == ()


def test_a_model_that_cannot_be_fetched_stops_the_pod_before_its_server(deploy: Deploy) -> None:
    """The init container says so; there is no network here."""
    download = {"modelSource": {"type": "download", "pvc": {"claimName": ""}}, "model": {"name": "nobody/nothing"}}
    deployment = deploy(download, ready=False)
    (pod,) = deployment.pods
    init, server = pod.container("model"), pod.container("embedserve")
    wait_until(lambda: len(init.statuses) >= 2, "two tries", PATIENCE)
    assert 0 not in init.statuses
    assert "nobody/nothing" in init.logs()
    assert pod.waiting.startswith("Init:model: ")
    assert (server.statuses, server.started, pod.ready) == ([], False, False)


def test_a_pod_waits_for_its_secret(deploy: Deploy) -> None:
    keys = {"auth": {"apiKeys": {"existingSecret": "clients"}}}
    deployment = deploy(keys, ready=False)
    (pod,) = deployment.pods
    wait_until(lambda: pod.waiting == 'FailedMount: secret "clients" not found', "the complaint", PATIENCE)
    deployment.objects.all.append(SECRET)
    wait_until(deployment.ready, "it to start", PATIENCE)
    url, body = f"{deployment.service.url}/v1/embeddings", {"input": "who asks?"}
    assert httpx.post(url, json=body).status_code == 401
    assert httpx.post(url, json=body, headers={"authorization": "Bearer a-key-of-the-test"}).status_code == 200
