"""Probes as the kubelet asks them, and what it makes of the answers.

Rules and defaults: Kubernetes' documentation, "Configure Liveness, Readiness and Startup Probes".
"""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import httpx

from tests.pods.objects import Object, Unsupported

Answer = tuple[bool, str]  # whether it is well, and what it said


class Execute(Protocol):
    """Runs a command in the container: its exit status. Raises TimeoutExpired."""

    def __call__(self, command: list[str], seconds: float) -> int: ...


@dataclass(frozen=True)
class Probe:
    """`ask` does one; times in seconds."""

    kind: str
    about: Object

    @property
    def period(self) -> float:
        """Between two questions."""
        return float(self.about.get("periodSeconds", 10))

    @property
    def timeout(self) -> float:
        """Of one question."""
        return float(self.about.get("timeoutSeconds", 1))

    def ask(self, address: str, ports: dict[str, int], execute: Execute) -> Answer:
        """`ports` are the container's, by name. Raises Unsupported."""
        if "httpGet" in self.about:
            return _http(self.about["httpGet"], address, ports, self.timeout)
        if "exec" in self.about:
            return _command(self.about["exec"]["command"], execute, self.timeout)
        if "tcpSocket" in self.about:
            return _connect(address, _port(self.about["tcpSocket"]["port"], ports), self.timeout)
        raise Unsupported(f"a probe of {sorted(self.about)}")


class Tally:
    """Answers in a row until they change the verdict: `successThreshold` good ones, `failureThreshold` bad ones."""

    def __init__(self, about: Object, verdict: bool) -> None:
        self.verdict = verdict
        self._needed = {True: about.get("successThreshold", 1), False: about.get("failureThreshold", 3)}
        self._last, self._in_a_row = verdict, 0

    def add(self, well: bool) -> bool:
        """Whether this many of the kind have now come in a row, and so count."""
        self._in_a_row = self._in_a_row + 1 if well == self._last else 1
        self._last = well
        if self._in_a_row < self._needed[well]:
            return False
        self.verdict = well
        return True


def watch(probe: Probe, ask: Callable[[], Answer], stop: threading.Event, tell: Callable[[bool, str], bool]) -> None:
    """Asks until `stop`, or until `tell` says that it has heard enough. It hears what counts: a verdict, and why."""
    tally = Tally(probe.about, verdict=probe.kind == "liveness")
    if stop.wait(float(probe.about.get("initialDelaySeconds", 0))):
        return
    while not stop.is_set():
        well, said = ask()
        if not stop.is_set() and tally.add(well) and not tell(well, said):
            return
        stop.wait(probe.period)


def _http(about: Object, address: str, ports: dict[str, int], timeout: float) -> Answer:
    """Any status from 200 to 399 is well; certificates are not looked at."""
    scheme, port = about.get("scheme", "HTTP").lower(), _port(about["port"], ports)
    url = f"{scheme}://{about.get('host', address)}:{port}{about.get('path', '/')}"
    headers = {one["name"]: one["value"] for one in about.get("httpHeaders", ())}
    headers = {"User-Agent": "kube-probe/1.33", "Connection": "close"} | headers
    try:
        reply = httpx.get(url, headers=headers, timeout=timeout, verify=False, trust_env=False)
    except httpx.TransportError as error:
        return False, f"{url}: {type(error).__name__} {error}".strip()
    return 200 <= reply.status_code < 400, f"{url}: {reply.status_code} {reply.text[:200]}".strip()


def _command(command: list[str], execute: Execute, timeout: float) -> Answer:
    try:
        status = execute(command, timeout)
    except subprocess.TimeoutExpired:
        return False, f"{' '.join(command)}: not within {timeout:g} s"
    return status == 0, f"{' '.join(command)}: exit status {status}"


def _connect(address: str, port: int, timeout: float) -> Answer:
    try:
        socket.create_connection((address, port), timeout).close()
    except OSError as error:
        return False, f"{address}:{port}: {error}"
    return True, f"{address}:{port}: connected"


def _port(named: str | int, ports: dict[str, int]) -> int:
    return named if isinstance(named, int) else ports[named]
