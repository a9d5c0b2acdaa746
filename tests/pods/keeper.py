"""One container of a pod through its restarts: started, probed, ended, and started again."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from signal import Signals

import httpx

from tests.pods.objects import NotConfigured, Object, Unsupported
from tests.pods.podman import Container, PodmanError
from tests.pods.probes import Answer, Probe, watch

Make = Callable[[Object, str], Container]
_LEAST_SECONDS = 2.0  # that a container has between its signal and its end, however long preStop took
_OF_SIGNALS = (0, 137, 143)  # ends that a container need not explain: its own, SIGKILL's and SIGTERM's
_STUCK = 60.0  # seconds until a container that was killed is given up


def backoff() -> Iterator[float]:
    """Seconds before each start: none before the first and the second, then 10, 20, … up to 300."""
    yield 0.0
    yield 0.0
    yield from (min(300.0, 10.0 * 2**n) for n in itertools.count())


@dataclass
class Run:
    """A container from its start to its end."""

    container: Container
    ended: threading.Event = field(default_factory=threading.Event)
    status: int | None = None


class Keeper:
    """Owns the state of one container; whoever asks reads it, and `changed` is called when readiness does."""

    def __init__(
        self,
        pod: str,
        address: str,
        about: Object,
        grace: float,
        make: Make,
        changed: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        """`make` creates the podman container of a name; `grace` is the pod's, in seconds."""
        self.name = about["name"]
        self.started = self.ready = False
        self.ready_since = 0.0  # by the monotonic clock
        self.restarts = 0
        self.waiting = ""  # why no container runs
        self.statuses: list[int] = []  # of all runs that have ended
        self._pod, self._address, self._about, self._grace = pod, address, about, grace
        if "postStart" in about.get("lifecycle", {}):
            raise Unsupported("a postStart hook")
        self._make, self._changed, self._say = make, changed, say
        self._ports = {one["name"]: one["containerPort"] for one in about.get("ports", ()) if "name" in one}
        self._lock = threading.Lock()  # between a start and the end of the pod
        self._run: Run | None = None
        self._over = threading.Event()
        self._last_words = ""

    # What others ask for.

    @property
    def container(self) -> Container:
        """The one that runs. Raises AssertionError where none does."""
        assert self._run is not None, f"{self.name} does not run: {self.waiting}"
        return self._run.container

    def logs(self) -> str:
        """Of the run there is, or was."""
        run = self._run
        return run.container.logs() if run else self._last_words

    def keep(self) -> None:
        """Until `end`: starts it, and starts it again when it has ended."""
        for number, delay in enumerate(backoff()):
            if delay and not self._over.is_set():
                self._say(f"{self.name}: back-off {delay:g} s before it is started again")
                self.waiting = f"CrashLoopBackOff: {self.waiting}"
            if self._over.wait(delay):
                return
            if run := self._begin(f"{self._pod}-{self.name}-{number}"):
                self._live(run)
            self.restarts = number + (not self._over.is_set())

    def run_once(self) -> int | None:
        """The exit status of an init container; None where it could not be created, or the pod was deleted before."""
        run = self._begin(f"{self._pod}-{self.name}-{len(self.statuses)}")
        if run is None:
            return None
        self._watch_end(run)
        return run.status

    def end(self, grace: float | None = None) -> None:
        """For good: preStop, the signal, and after `grace` seconds SIGKILL."""
        with self._lock:
            self._over.set()
            run = self._run
        if run:
            self._stop(run, self._grace if grace is None else grace)

    # Its life.

    def _begin(self, name: str) -> Run | None:
        with self._lock:
            if self._over.is_set():
                return None
            try:
                container = self._make(self._about, name)
            except (NotConfigured, PodmanError) as error:
                self._say(f"{self.name}: CreateContainerConfigError: {error}")
                self.waiting = f"CreateContainerConfigError: {error}"
                return None
            container.start()
            self._run = Run(container)
            self._say(f"{self.name}: started")
            self.waiting = ""
            return self._run

    def _live(self, run: Run) -> None:
        self.started = False
        if "startupProbe" in self._about:
            self._ask_startup(run)
        else:
            self._is_started(run)
        self._watch_end(run)

    def _watch_end(self, run: Run) -> None:
        run.status = run.container.wait()
        self._last_words = run.container.logs()
        killed = " (out of memory)" if run.container.inspect()["State"]["OOMKilled"] else ""
        self.waiting = f"ended with exit status {run.status}{killed}"
        self._say(f"{self.name}: {self.waiting}")
        if run.status not in _OF_SIGNALS and (lines := self._last_words.splitlines()):
            self._say(f"{self.name}: {lines[-1]}")
        self._run = None
        self.statuses.append(run.status)
        self.started = False
        self._set_ready(False, "it has ended")
        run.ended.set()
        run.container.remove()

    def _set_ready(self, ready: bool, why: str) -> None:
        if ready != self.ready:
            self.ready, self.ready_since = ready, time.monotonic()
            self._say(f"{self.name}: {'ready' if ready else 'not ready'}: {why}")
            self._changed()

    # Probes: startup holds the other two back.

    def _ask_startup(self, run: Run) -> None:
        def tell(well: bool, said: str) -> bool:
            if not well:
                self._restart(run, "startup", said)
            elif not self._over.is_set():
                self._say(f"{self.name}: startup probe: {said}")
                self._is_started(run)
            return False

        self._watch("startup", run, run.ended, tell)

    def _is_started(self, run: Run) -> None:
        self.started = True

        def alive(well: bool, said: str) -> bool:
            if not well:
                self._restart(run, "liveness", said)
            return well

        def ready(well: bool, said: str) -> bool:
            self._set_ready(well and run is self._run, said)
            return True

        if "livenessProbe" in self._about:
            self._watch("liveness", run, run.ended, alive)
        if "readinessProbe" in self._about:
            self._watch("readiness", run, run.ended, ready)
        else:
            self._set_ready(True, "it has no readiness probe")

    def _watch(self, kind: str, run: Run, stop: threading.Event, tell: Callable[[bool, str], bool]) -> None:
        probe = Probe(kind, self._about[f"{kind}Probe"])

        def ask() -> Answer:
            return probe.ask(self._address, self._ports, run.container.execute)

        threading.Thread(target=watch, args=(probe, ask, stop, tell), name=f"{self.name} {kind}", daemon=True).start()

    def _restart(self, run: Run, kind: str, said: str) -> None:
        """Unless the pod is being deleted: from then on only readiness counts."""
        if self._over.is_set():
            return
        self._say(f"{self.name}: {kind} probe failed, it will be restarted: {said}")
        self._stop(run, self._about[f"{kind}Probe"].get("terminationGracePeriodSeconds", self._grace))

    # Its end.

    def _stop(self, run: Run, grace: float) -> None:
        until = time.monotonic() + grace
        if grace and "preStop" in self._about.get("lifecycle", {}):
            self._prepare(run, self._about["lifecycle"]["preStop"], grace)
        left = max(until - time.monotonic(), min(grace, _LEAST_SECONDS))
        if left:
            name = Signals(run.container.inspect()["Config"]["StopSignal"]).name
            self._say(f"{self.name}: {name}, {left:.1f} s until SIGKILL")
            run.container.kill(name)
        if not run.ended.wait(left):
            self._say(f"{self.name}: SIGKILL")
            run.container.kill("KILL")
            assert run.ended.wait(_STUCK), f"{run.container.name} does not end"

    def _prepare(self, run: Run, hook: Object, seconds: float) -> None:
        """What preStop says, for as long as there is time. Whether it fails is of no importance to the kubelet."""
        self._say(f"{self.name}: preStop")
        ((kind, about),) = hook.items()
        try:
            if kind == "sleep":
                run.ended.wait(min(seconds, about["seconds"]))
            elif kind == "exec":
                status = run.container.execute(about["command"], seconds)
                self._say(f"{self.name}: preStop: exit status {status}")
            elif kind == "httpGet":
                httpx.get(self._url(about), timeout=seconds, trust_env=False)
            else:
                raise Unsupported(f"preStop by {kind}")
        except (subprocess.TimeoutExpired, httpx.TransportError) as error:
            self._say(f"{self.name}: preStop failed: {error}")

    def _url(self, about: Object) -> str:
        port = about["port"] if isinstance(about["port"], int) else self._ports[about["port"]]
        return f"{about.get('scheme', 'HTTP').lower()}://{self._address}:{port}{about.get('path', '/')}"
