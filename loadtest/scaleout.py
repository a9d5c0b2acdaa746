"""Three pods behind a proxy beside one pod with the same cores: what scaling out costs.

All of them are pods of the chart with its image under podman (`tests/pods`), so this needs what `make pod-test` needs.
The one pod has a quota of all cores and is asked directly; the three have a core's executor each and stand behind the
proxy of deploy/, which shares the cores with them, as does the load generator in both cases. Rounds take turns. On a
machine that is busy elsewhere CPU time tells more than throughput: that of the pods and the proxy for each request.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from loadtest import command, figures, generator
from loadtest.client import Job, cpu_seconds
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.report import machine
from loadtest.server import find_bundle
from loadtest.texts import Mix, Text, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.cores import usable_cores
from service.tokenizer import Tokenizer

with command.needing("embedserve[test]"):
    from tests.pods import groups
    from tests.pods.deployment import Deployment
    from tests.pods.kubelet import Node
    from tests.pods.release import build_image, fill_claim, missing, rendered
    from tests.rolling.proxies import Proxy, running

REPLICAS = 3
ALONE = "one pod"
TARGET = 0.9  # of the one pod's throughput
_MIX = Mix("passages", 100, 200)
_CONNECTIONS = 24
_PATIENCE = 120.0  # seconds that a load may take
_START_SECONDS = 180.0

_HELP = """\
Requests per second of three pods behind each proxy, beside one pod that has all cores to itself: one text of 100-200
tokens a request, 24 connections. Needs root, podman and what `make pod-test` installs.
"""

_say = partial(command.say, "scaleout")


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests are sent, and the first processes of the pods that answer them."""

    name: str
    host: str
    port: int
    pids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rate:
    """Requests per second; CPU milliseconds of pods and proxies for each."""

    requests: float
    cpu: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("scaleout", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    if reason := missing():
        raise MeasurementError(reason)
    path = command.results_file(options.json, "scaleout")
    bundle = find_bundle(options.model, _say)
    texts = Texts(Tokenizer(bundle / TOKENIZER_JSON), SEED)
    build_image()
    with _places(bundle) as places:
        rounds = [_round(number, places, texts, options.requests) for number in range(-1, options.rounds)][1:]
    rated = list(rated_figures(rounds))
    figures.write_json(
        path,
        rated,
        {
            "machine": machine(),
            "rounds": [{name: asdict(rate) for name, rate in one.items()} for one in rounds],
            "places": [asdict(one) for one in places],
        },
    )
    print(figures.table(rated))
    print(f"\nMedians of {len(rounds)} rounds; every round: {path}")


@contextlib.contextmanager
def _places(bundle: Path) -> Iterator[list[Place]]:
    """The one pod first, then each proxy before the three."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="embedserve-scaleout-")))
        folder.chmod(0o755)
        (folder / "claim").mkdir()
        node = Node(fill_claim(folder / "claim", bundle))
        stack.callback(node.remove)
        alone = stack.enter_context(_pods(node, 1, usable_cores()))
        three = stack.enter_context(_pods(node, REPLICAS, 1))
        found = [Place(ALONE, *alone.service.endpoints[0], _pids(alone))]
        hosts, ports = zip(*three.service.endpoints, strict=True)
        for kind in ("haproxy", "envoy"):
            url = stack.enter_context(running(Proxy(kind, retries=True), ports, folder / kind, hosts))
            found.append(Place(f"{REPLICAS} pods, {kind}", "127.0.0.1", urlsplit(url).port or 80, _pids(three)))
        yield found


@contextlib.contextmanager
def _pods(node: Node, count: int, cores: int) -> Iterator[Deployment]:
    """Once all of them are ready."""
    values = {
        "resources": {"requests": {"cpu": str(cores)}, "limits": {"cpu": str(cores), "memory": "1Gi"}},
        "extraEnv": [{"name": "EMBEDSERVE_ACCESS_LOG", "value": "false"}],
    }
    deployment = Deployment(rendered(values), node, 0.0, count)
    try:
        until = time.monotonic() + _START_SECONDS
        while not deployment.ready():
            if time.monotonic() > until:
                raise MeasurementError(f"the pods do not get ready:\n{node.transcript}")
            time.sleep(0.1)
        yield deployment
    finally:
        deployment.remove()


def _pids(deployment: Deployment) -> tuple[int, ...]:
    return tuple(pod.container().container.pid for pod in deployment.pods)


def _round(number: int, places: Sequence[Place], texts: Texts, requests: int) -> dict[str, Rate]:
    """By place. To and fro in turns, so that a drift favours none; round -1 warms up."""
    order = places if number % 2 else list(reversed(places))
    found = {place.name: _load(place, texts.draw(requests, _MIX)) for place in order}
    _say(f"round {number + 1}: " + ", ".join(f"{name} {rate.requests:.1f}" for name, rate in found.items()))
    return found


def _load(place: Place, texts: Sequence[Text]) -> Rate:
    """All of them once: what is counted is what took CPU time. Raises MeasurementError where an answer is no 200."""
    job = Job(
        host=place.host,
        port=place.port,
        path=PATH,
        connections=_CONNECTIONS,
        seconds=_PATIENCE,
        bodies=[body_of([text], "base64") for text in texts],
        tokens=[len(text.ids) for text in texts],
        warmup=0.0,
        once=True,
    )
    before = _cpu_seconds(place)
    result = generator.checked(generator.run(job), place.name)
    return Rate(result.requests_per_second, 1e3 * (_cpu_seconds(place) - before) / result.answered)


def _cpu_seconds(place: Place) -> float:
    """Of its pods and of this process's children: the proxies, of which one that nobody asks takes next to nothing."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    proxies = sum(cpu_seconds(int(pid)) or 0.0 for pid in children)
    return proxies + sum(groups.cpu_seconds(pid) for pid in place.pids)


def rated_figures(rounds: Sequence[Mapping[str, Rate]]) -> Iterator[Figure]:
    """Medians; ratios are taken within the rounds."""
    for name in sorted(rounds[0], key=lambda name: (name != ALONE, name)):
        yield Figure(name, "throughput", statistics.median(one[name].requests for one in rounds), "requests/s")
        yield Figure(name, "CPU time", statistics.median(one[name].cpu for one in rounds), "ms a request")
        if name != ALONE:
            ratio = statistics.median(one[name].requests / one[ALONE].requests for one in rounds)
            yield Figure(name, f"÷ {ALONE}", ratio, "", at_least=TARGET)
            ratio = statistics.median(one[ALONE].cpu / one[name].cpu for one in rounds)
            yield Figure(name, f"÷ {ALONE} by CPU time", ratio, "", at_least=TARGET)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("scaleout", _HELP)
    parser.add_argument(
        "--requests", type=command.number(int, 1), default=300, help="of each load in each round (default: %(default)s)"
    )
    command.add_rounds(parser, default=5)
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
