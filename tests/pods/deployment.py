"""A Deployment's pods behind its Service: as many as are asked for, and a rolling update by the rendered strategy.

Rules: Kubernetes' documentation of Deployments (percentages: maxSurge rounds up, maxUnavailable down; pods that are
being deleted do not count) and of the end of pods (one that is being deleted is no endpoint, whatever its probe says).
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from tests.pods.kubelet import Node, Pod
from tests.pods.objects import Object, Objects, Unsupported
from tests.pods.service import Service
from tests.pods.transcript import Transcript

_LOOK = 0.05  # seconds between two looks


class Deployment:
    """Owns its pods. `lag` is that of its Service, in seconds."""

    def __init__(self, objects: Objects, node: Node, lag: float, replicas: int | None = None) -> None:
        self.service = Service(lag)
        self.pods: list[Pod] = []  # that were not deleted
        self.ended: list[Pod] = []
        self.least_ready = 0  # pods at a time, since the last update began
        self._node, self._lock = node, threading.Lock()
        self._endpoints: list[Pod] = []
        self._workload, self.objects = objects.workload(), objects
        self._port = _public_port(objects)
        self.replicas: int = self._workload["spec"].get("replicas", 1) if replicas is None else replicas
        for _ in range(self.replicas):
            self._create()

    @property
    def transcript(self) -> Transcript:
        """Of its node."""
        return self._node.transcript

    def ready(self) -> bool:
        """All of them, and the Service knows."""
        return all(pod.ready for pod in self.pods) and len(self.service.endpoints) == len(self.pods) == self.replicas

    def delete(self, pod: Pod) -> None:
        """One, as by hand: another is made at once, and does not wait for its end."""
        self._delete(pod)
        self._create()

    def roll(self, objects: Objects, patience: float) -> None:
        """Replaces all pods by those of another rendering; returns when none of the old ones is left, and they are
        gone. Raises TimeoutError after `patience` seconds."""
        self._workload, self.objects = objects.workload(), objects
        surge, unavailable = self._strategy()
        self.least_ready = sum(pod.ready for pod in self.pods)
        old, new = list(self.pods), list[Pod]()
        until = time.monotonic() + patience
        least = float(self._workload["spec"].get("minReadySeconds", 0))
        while old or not all(pod.ready for pod in new):
            while len(new) < self.replicas and len(self.pods) < self.replicas + surge:
                new.append(self._create())
            if old and sum(pod.ready_for() >= least for pod in self.pods) > self.replicas - unavailable:
                self._delete(old.pop(0))
            _sleep_before(until, self._node)
        while not all(pod.gone.is_set() for pod in self.ended):
            _sleep_before(until, self._node)

    def remove(self) -> None:
        """Ends all of them at once."""
        for pod in list(self.pods):
            self._delete(pod, grace=0)
        for pod in self.ended:
            pod.gone.wait()
        self.service.stop()

    def _create(self) -> Pod:
        template = self._workload["spec"]["template"]
        named = {**template["metadata"], "name": self._workload["metadata"]["name"]}
        pod = Pod({**template, "metadata": named}, self.objects, self._node, self._tell)
        self.pods.append(pod)
        return pod.start()

    def _delete(self, pod: Pod, grace: float | None = None) -> None:
        self.pods.remove(pod)
        self.ended.append(pod)
        pod.delete(grace)

    def _tell(self) -> None:
        with self._lock:
            ready = [pod for pod in self.pods if pod.ready]
            self.least_ready = min(self.least_ready, len(ready))
            if ready != self._endpoints:
                self._endpoints = ready
                self._node.transcript.say("endpoints", ", ".join(pod.name for pod in ready) or "none")
                self.service.set([(pod.address, pod.port(self._port)) for pod in ready])

    def _strategy(self) -> tuple[int, int]:
        """maxSurge and maxUnavailable, in pods. Raises Unsupported."""
        strategy: Object = self._workload["spec"].get("strategy", {})
        if strategy.get("type", "RollingUpdate") != "RollingUpdate":
            raise Unsupported(f"the strategy {strategy['type']}")
        rolling = strategy.get("rollingUpdate", {})
        return (
            share(rolling.get("maxSurge", "25%"), self.replicas, math.ceil),
            share(rolling.get("maxUnavailable", "25%"), self.replicas, math.floor),
        )


def share(amount: int | str, replicas: int, rounded: Callable[[float], int]) -> int:
    return amount if isinstance(amount, int) else rounded(int(amount.removesuffix("%")) / 100 * replicas)


def _public_port(objects: Objects) -> str | int:
    """What the first port of the Service with a cluster address leads to."""
    service = next(one for one in objects.of_kind("Service") if one["spec"].get("clusterIP") != "None")
    port = service["spec"]["ports"][0]
    found: str | int = port.get("targetPort", port["port"])
    return found


def _sleep_before(until: float, node: Node) -> None:
    if time.monotonic() > until:
        raise TimeoutError(f"the pods did not come or go:\n{node.transcript}")
    time.sleep(_LOOK)
