"""A small kubelet: runs a rendered pod with podman, as one does on a node of a cluster.

What it does is what the rendered manifest says: volumes, environment, security contexts, limits, init containers in
order, probes, restarts, preStop, signals and the grace. What it does not know it refuses (Unsupported), so that nothing
is left out in silence. A pod has a network of its own; nothing but this machine reaches it.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.pods.environment import environment, expand
from tests.pods.keeper import Keeper, backoff
from tests.pods.network import PodNetwork
from tests.pods.objects import NotConfigured, Object, Objects, Unsupported
from tests.pods.podman import Container, limits, security, settle_environment
from tests.pods.service import Service
from tests.pods.transcript import Transcript
from tests.pods.volumes import Volumes

_RETRY = 1.0  # seconds until something that was missing is looked for again
_DEFAULT_GRACE = 30.0
_UNKNOWN = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "ephemeralContainers")

_UNKNOWN_OF_CONTAINER = ("volumeDevices", "tty", "stdin", "resizePolicy")


@dataclass
class Node:
    """What a pod finds where it runs. `claims` are folders in the place of PersistentVolumeClaims; `services` are those
    that pods reach, by name and port."""

    claims: Mapping[str, Path] = field(default_factory=dict)
    services: dict[tuple[str, int], Service] = field(default_factory=dict)
    transcript: Transcript = field(default_factory=Transcript)
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="pods-")))
    namespace: str = "default"

    def remove(self) -> None:
        """Its folders."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Pod:
    """One pod, from its creation to its end. `changed` is called whenever it may have become ready, or ceased to be."""

    def __init__(self, template: Object, objects: Objects, node: Node, changed: Callable[[], None] = lambda: None):
        """`template` has metadata and spec, as a Deployment's. Raises Unsupported."""
        spec = template["spec"]
        if unknown := [name for name in _UNKNOWN if spec.get(name)]:
            raise Unsupported(f"a pod with {unknown[0]}")
        if spec.get("restartPolicy", "Always") not in ("Always", "Never"):
            raise Unsupported(f"restartPolicy {spec['restartPolicy']}")
        if any("restartPolicy" in one for one in spec.get("initContainers", ())):
            raise Unsupported("an init container with a restartPolicy")
        self.name = f"{template['metadata'].get('name', 'pod')}-{uuid.uuid4().hex[:5]}"
        if unknown := [name for one in spec["containers"] for name in _UNKNOWN_OF_CONTAINER if one.get(name)]:
            raise Unsupported(f"a container with {unknown[0]}")
        self._network = PodNetwork()
        self.address = self._network.address
        for (_, port), service in node.services.items():
            service.listen(self._network.host, port)
        metadata = {**template["metadata"], "name": self.name, "namespace": node.namespace, "uid": str(uuid.uuid4())}
        self._pod: Object = {"metadata": metadata, "spec": spec, "status": {"podIP": self.address}}
        self._objects, self._node, self._changed = objects, node, changed
        self._grace = float(spec.get("terminationGracePeriodSeconds", _DEFAULT_GRACE))
        self._volumes: Volumes | None = None
        self.waiting = ""  # why its containers have not begun
        self.deleted = threading.Event()
        self.gone = threading.Event()
        self._inits = [self._keeper(one) for one in spec.get("initContainers", ())]
        self._keepers = [self._keeper(one) for one in spec["containers"]]
        self._life = threading.Thread(target=self._run, name=self.name, daemon=True)

    # What others ask for.

    @property
    def ready(self) -> bool:
        """Whether it may be an endpoint of its Service."""
        return not self.deleted.is_set() and all(one.ready for one in self._keepers)

    def ready_for(self) -> float:
        """Seconds; below 0 if it is not."""
        return time.monotonic() - max(one.ready_since for one in self._keepers) if self.ready else -1.0

    @property
    def labels(self) -> Mapping[str, str]:
        """Of its template."""
        labels: Mapping[str, str] = self._pod["metadata"].get("labels", {})
        return labels

    def container(self, name: str | None = None) -> Keeper:
        """By name, init containers too; without one the first."""
        return next(one for one in (*self._keepers, *self._inits) if name in (None, one.name))

    def port(self, name: str | int) -> int:
        """The number of a container's port, as a Service's targetPort names it."""
        if isinstance(name, int):
            return name
        ports = (port for one in self._pod["spec"]["containers"] for port in one.get("ports", ()))
        return next(int(port["containerPort"]) for port in ports if port.get("name") == name)

    def start(self) -> Pod:
        """Returns at once."""
        self._say(f"created at {self.address}")
        self._life.start()
        return self

    def delete(self, grace: float | None = None) -> None:
        """Returns at once; `gone` is set at the end. `grace` in seconds in place of the rendered one."""
        if self.deleted.is_set():
            return
        self._say("deleted")
        self.deleted.set()
        self._changed()
        threading.Thread(target=self._end, args=(grace,), name=f"end of {self.name}", daemon=True).start()

    # Its life.

    def _run(self) -> None:
        while self._volumes is None:
            try:
                self._volumes = Volumes(self._node.folder / self.name, self._pod, self._objects, self._node.claims)
            except NotConfigured as error:
                self._wait_for(f"FailedMount: {error}")
                shutil.rmtree(self._node.folder / self.name, ignore_errors=True)
                if self.deleted.wait(_RETRY):
                    return
        self.waiting = ""
        if not all(self._initialise(one) for one in self._inits):
            return
        once = self._pod["spec"].get("restartPolicy") == "Never"
        lives = [one.run_once if once else one.keep for one in self._keepers]
        threads = [threading.Thread(target=life, name=self.name, daemon=True) for life in lives]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _initialise(self, init: Keeper) -> bool:
        """Until it has succeeded; false if the pod is deleted before."""
        for delay in backoff():
            if self.deleted.wait(delay):
                return False
            status = init.run_once()
            if status == 0:
                return True
            self._wait_for(f"Init:{init.name}: {init.waiting}")
        raise AssertionError("there is no end to it")

    def _wait_for(self, what: str) -> None:
        if self.waiting != what:
            self.waiting = what
            self._say(what)

    def _end(self, grace: float | None) -> None:
        ends = [threading.Thread(target=one.end, args=(grace,)) for one in (*self._inits, *self._keepers)]
        for thread in ends:
            thread.start()
        for thread in (*ends, self._life):
            thread.join()
        if self._volumes:
            self._volumes.remove()
        self._network.remove()
        self._say("gone")
        self.gone.set()

    # Its containers.

    def _keeper(self, about: Object) -> Keeper:
        return Keeper(self.name, self.address, about, self._grace, self._make, self._changed, self._say)

    def _make(self, about: Object, name: str) -> Container:
        """Raises NotConfigured, Unsupported and PodmanError."""
        assert self._volumes is not None
        variables = environment(about, self._pod, self._objects)
        options = [
            *("--network", f"ns:{self._network.path}", "--hostname", self.name),
            *(word for name, _ in self._node.services for word in ("--add-host", f"{name}:{self._network.host}")),
            *security(self._pod, about),
            *limits(about),
            *self._volumes.options(about, variables),
            *settle_environment(variables),
        ]
        if "workingDir" in about:
            options += ["--workdir", about["workingDir"]]
        entry, *words = [expand(word, variables) for word in (*about.get("command", ()), *about.get("args", ()))] or [
            ""
        ]
        if "command" not in about:
            return Container(name, about["image"], options, [entry, *words] if entry else [])
        return Container(name, about["image"], [*options, "--entrypoint", f'["{entry}"]'], words)

    def _say(self, what: str) -> None:
        self._node.transcript.say(self.name, what)
