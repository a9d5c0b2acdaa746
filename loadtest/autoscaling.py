"""`python -m loadtest.autoscaling`: what the shipped autoscaling asks for through a ramp, a spike and idling."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from loadtest import adapter, client, command, markdown, plots, prometheus
from loadtest.client import Job
from loadtest.command import MeasurementError
from loadtest.figures import Figure, number, table
from loadtest.fleet import Fleet, Read, Replica, Second, simulate
from loadtest.flood import Flood, Flooded, Plan
from loadtest.generator import checked
from loadtest.hpa import Autoscaler, Behavior, ExternalMetric, Metric, PodsMetric, Policy, Rules, reversals
from loadtest.paced_server import paced_server
from loadtest.report import machine
from loadtest.server import embedserve, find_bundle
from loadtest.texts import Mix, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

with command.needing("pyyaml"):
    import yaml

ROOT = Path(__file__).parents[1]
RECORDED = ROOT / "docs" / "autoscaling.json"
VALUES = ROOT / "helm" / "embedserve" / "values.yaml"
COMPRESSED = 15  # seconds of a cluster for one that is recorded: a scrape of 15 s is one of 1 s, a minute's rate of 4 s
_SIZE = 10.0  # replicas' worth of work at a load of 1
_MOST = 60
_SIZES, _SHIFTS = (4.0, 10.0, 25.0), range(0, 60, 12)  # of fleets, and seconds, for `turns`
_MIX = Mix("autoscaling", 20, 100)
_TEXTS = 16_000
_CONNECTIONS = 16  # of the closed loop that measures the capacity
_CAPACITY_SECONDS = 6.0
# Seconds, and the load as a share of the capacity: idle, a ramp, a plateau, less, a spike, less, idle.
_PLAN = (
    (8.0, 0.05),
    *((4.0, step / 10) for step in range(1, 10)),
    (14.0, 0.9),
    (22.0, 0.3),
    (8.0, 1.5),
    (24.0, 0.3),
    (22.0, 0.03),
)
_DEFAULT = "default behavior"  # Kubernetes's own
_POD = {"namespace": "recorded", "pod": "replica-0"}
_BINS = 8
_PAUSE = 6.0  # seconds, until nothing of that is in a rate any more
_DRIFT = 0.25  # by which the capacity may change
_FULL = 0.9  # share of the capacity above which a wait is a backlog

_HELP = f"""\
A server of its own, and a Prometheus that scrapes it every second. First its capacity, by {_CONNECTIONS} connections
that send one text of {_MIX.shortest}-{_MIX.longest} tokens after another; then requests that wait for nobody, by a
plan of loads; then the capacity again. A second stands for {COMPRESSED}: the queries are those of
deploy/prometheus/adapter-rules.yaml with a window of 4 s for 1 m. What they gave is kept, and a fleet of such
replicas is simulated under {_SIZE:.0f} times that load, with the HPA's algorithm on what Prometheus would tell it, by
the targets and the behavior of the chart's values.yaml and by others.

  turns           how often the number of replicas turned from growing to shrinking or back; this load does so three
                  times. "of fleets": of several sizes, each begun at several moments between two looks
  replica hours   of all replicas that were ready or starting
  refused         share of the work that was refused
  wait            mean seconds that a chunk waited for an executor, over all work

--pace is for machines that have other things to do: the encoder then takes that many milliseconds a token, whoever
else wants the cores, and computes nothing.
--replay simulates once more on what was recorded before, without a server.
"""

_say = partial(command.say, "autoscaling")


@dataclass(frozen=True, slots=True)
class Recorded:
    """Of one server, each second: requests that were `sent`, and what Prometheus said. `answered` and `refused` are
    rates of requests; `capacity` is in requests a second as well. `pace` is in milliseconds a token, 0 where a model
    ran."""

    machine: Mapping[str, Any]
    pace: float
    capacity: float
    sent: Sequence[float]
    answered: Sequence[float]
    refused: Sequence[float]
    busy: Sequence[float]
    wait: Sequence[float]

    def loads(self) -> list[float]:
        """What was done, as shares of the capacity."""
        return [max(0.0, a - b) / self.capacity for a, b in zip(self.answered, self.refused, strict=True)]

    def replica(self) -> Replica:
        """Busy share and wait by load: medians of neighbours, at a load of 0 both are 0."""
        rows = sorted(zip(self.loads(), self.busy, self.wait, strict=True))
        parts = [rows[len(rows) * i // _BINS : len(rows) * (i + 1) // _BINS] for i in range(_BINS)]
        middle = [tuple(statistics.median(column) for column in zip(*part, strict=True)) for part in parts]
        curve = [(0.0, 0.0, 0.0), *(one for one in middle if one[0] > 0)]
        loads, busy, waits = zip(*curve, strict=True)
        backlog = [load > _FULL for load in loads]
        calm = max(wait for wait, is_backlog in zip(waits, backlog, strict=True) if not is_backlog)
        return Replica(loads, busy, [calm if full else wait for wait, full in zip(waits, backlog, strict=True)])

    def offered(self, size: float = _SIZE) -> list[float]:
        """Second by second of a cluster: what comes, in replicas' worth of work, `size` of them at the capacity."""
        scaled = [size * one / self.capacity for one in self.sent]
        return [
            before + (after - before) * i / COMPRESSED for before, after in pairwise(scaled) for i in range(COMPRESSED)
        ]


# --- recording ------------------------------------------------------------------------------------------------


def record(model: str, options: Sequence[str], program: Path, pace: float = 0.0) -> Recorded:
    """A server through the plan, as a Prometheus sees it. Raises MeasurementError, RuntimeError."""
    folder = find_bundle(model, _say)
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), SEED).draw(_TEXTS, _MIX)
    bodies, tokens = [body_of([text], "base64") for text in texts], [len(text.ids) for text in texts]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(paced_server(folder, pace, options) if pace else embedserve(folder, options))
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        found = stack.enter_context(prometheus.scraping(program, {server.port: _POD}, temporary))
        job = Job(server.host, server.port, PATH, _CONNECTIONS, _CAPACITY_SECONDS, bodies, tokens)
        before = checked(client.run(job)).requests_per_second
        _say(f"capacity {before:.0f} requests/s; {sum(seconds for seconds, _ in _PLAN):.0f} s of load")
        time.sleep(_PAUSE)
        phases = [(seconds, load * before) for seconds, load in _PLAN]
        begin = time.time()
        with Flood(Plan(server.host, server.port, PATH, phases, bodies)) as flood:
            flooded = flood.result()
        recorded = _read(found, before, begin, flooded, pace)
        after = checked(client.run(job)).requests_per_second
    if not pace and abs(after / before - 1) > _DRIFT:
        raise MeasurementError(
            f"capacity {before:.0f} before and {after:.0f} after: the machine had other things to do"
        )
    return recorded


def _read(found: prometheus.Prometheus, capacity: float, begin: float, flooded: Flooded, pace: float) -> Recorded:
    shipped = {name: _compressed(query) for name, query in adapter.queries(_POD["namespace"], ".*").items()}
    asked = {
        "answered": 'sum(rate(embedserve_requests_total{model!="none"}[4s]))',
        "refused": 'sum(rate(embedserve_rejections_total{reason="overloaded"}[4s])) or vector(0)',
        "busy": shipped["embedserve_utilisation"],
        "wait": shipped["embedserve_queue_wait_seconds"],
    }
    seconds = range(1, round(sum(seconds for seconds, _ in _PLAN)) + 1)
    last = begin + seconds[-1]
    series = {name: [value for _, value in found.series(query, begin + 1, last, 1.0)] for name, query in asked.items()}
    if any(len(one) != len(seconds) for one in series.values()):
        raise MeasurementError("Prometheus lacks some seconds of the load: the machine had other things to do")
    sent = Counter(math.ceil(one.at) for one in flooded.sent)
    rounded = {name: [round(value, 4) for value in one] for name, one in series.items()}
    return Recorded(machine(), pace, capacity, [float(sent[at]) for at in seconds], **rounded)


def _compressed(query: str) -> str:
    return query.replace("[1m]", f"[{60 // COMPRESSED}s]")


# --- simulating -----------------------------------------------------------------------------------------------


def targets() -> dict[str, float]:
    """Of the chart's values, those that are set."""
    found = yaml.safe_load(VALUES.read_text("utf-8"))["autoscaling"]["targets"]
    return {name: float(value) for name, value in found.items() if value is not None}


def behavior() -> Behavior:
    """Of the chart's values."""
    told = yaml.safe_load(VALUES.read_text("utf-8"))["autoscaling"]["behavior"]
    return Behavior(_rules(told["scaleUp"]), _rules(told["scaleDown"]))


def _rules(told: Mapping[str, Any]) -> Rules:
    policies = [Policy(one["type"], one["value"], one["periodSeconds"]) for one in told["policies"]]
    return Rules(policies, told["stabilizationWindowSeconds"], told["selectPolicy"])


def by_hpa(wanted: Mapping[str, float]) -> Read:
    """Metrics of the chart's HPA: a value of each pod, from prometheus-adapter."""

    def read(fleet: Fleet) -> list[Metric]:
        busy = fleet.busy_of_each()
        missing = len(fleet.starts) - len(busy)
        values = {"utilisation": busy, "queueWaitSeconds": [fleet.mean_wait()] * len(busy)}
        return [PodsMetric(values[name], target, missing) for name, target in wanted.items()]

    return read


def by_keda(wanted: Mapping[str, float]) -> Read:
    """Metrics of the chart's ScaledObject: one value of all pods, from a query."""

    def read(fleet: Fleet) -> list[Metric]:
        values = {"utilisation": sum(fleet.busy_of_each()), "queueWaitSeconds": fleet.mean_wait()}
        return [ExternalMetric(values[name], target, name == "utilisation") for name, target in wanted.items()]

    return read


def variants() -> dict[str, tuple[Read, Behavior]]:
    """What is compared, by name; the first is the chart's own."""
    both = {name: targets()[name] for name in ("utilisation", "queueWaitSeconds")}
    busy, wait = ({name: both[name]} for name in both)
    return {
        "HPA": (by_hpa(both), behavior()),
        "KEDA": (by_keda(both), behavior()),
        "busy share alone": (by_hpa(busy), behavior()),
        "wait alone": (by_hpa(wait), behavior()),
        _DEFAULT: (by_hpa(both), Behavior()),
    }


def run(recorded: Recorded) -> dict[str, list[Second]]:
    """Each variant's fleet, second by second."""
    offered, replica = recorded.offered(), recorded.replica()
    return {name: _simulated(replica, offered, *one) for name, one in variants().items()}


def turns(recorded: Recorded) -> dict[str, list[int]]:
    """Of each variant, in fleets of several sizes, whose load begins at several moments between two looks."""
    replica = recorded.replica()
    loads = [[load[0]] * shift + load for size in _SIZES for load in [recorded.offered(size)] for shift in _SHIFTS]
    return {
        name: [reversals([second.wanted for second in _simulated(replica, load, *one)]) for load in loads]
        for name, one in variants().items()
    }


def _simulated(replica: Replica, offered: Sequence[float], read: Read, rules: Behavior) -> list[Second]:
    return simulate(replica, Autoscaler(2, _MOST, rules), read, offered, start=2)


def alone(recorded: Recorded) -> list[float]:
    """The model's busy share of one replica under what was recorded, to be compared with what Prometheus said."""
    return [recorded.replica().busy_at(load) for load in recorded.loads()]


def rated(
    recorded: Recorded, runs: Mapping[str, Sequence[Second]], turned: Mapping[str, Sequence[int]]
) -> list[Figure]:
    """The figures of the table."""
    off = [abs(a - b) for a, b in zip(alone(recorded), recorded.busy, strict=True)]
    found = [Figure("one replica", "model's busy share − recorded, mean", statistics.mean(off), "", at_most=0.1)]
    for name, seconds in runs.items():
        work = sum(one.done for one in seconds)
        found += [
            Figure(name, "turns", reversals([one.wanted for one in seconds]), ""),
            Figure("", f"turns at most, of {len(turned[name])} fleets", max(turned[name]), ""),
            Figure("", "replicas at most", max(one.wanted for one in seconds), ""),
            Figure("", "replica hours", sum(one.wanted for one in seconds) / 3600, "h"),
            Figure("", "refused", 100 * sum(one.refused for one in seconds) / sum(one.came for one in seconds), "%"),
            Figure("", "wait", sum(one.wait * one.done for one in seconds) / work, "s"),
        ]
    return found


def in_markdown(found: Sequence[Figure]) -> str:
    """The figures of the variants, a row for each."""
    rows: list[list[str]] = []
    for one in found[1:]:
        if one.topic:
            rows.append([one.topic])
        rows[-1].append(f"{number(one.value)} {one.unit}".strip())
    head = ["by", *(one.name for one in found[1 : len(rows[0])])]
    return markdown.table(head, rows, text_columns=len(head))


def plot(recorded: Recorded, runs: Mapping[str, Sequence[Second]]) -> str:
    """The load, what each variant made of it, and the model beside what was recorded; a point for each second that was
    recorded."""
    picked = range(len(recorded.sent) - 1)
    of = {name: [seconds[COMPRESSED * i] for i in picked] for name, seconds in runs.items()}

    def wanted(*names: str) -> dict[str, list[float]]:
        return {name: [float(one.wanted) for one in of[name]] for name in names}

    work = {"work": [one.came for one in of["HPA"]], "ready": [float(one.ready) for one in of["HPA"]]}
    waits = {name: [one.wait for one in of[name]] for name in ("HPA", "busy share alone")}
    busy = {"recorded": recorded.busy[:-1], "model": alone(recorded)[:-1]}
    panels = [
        plots.Lines("Work that comes, and replicas", "replicas", work | {"asked for": wanted("HPA")["HPA"]}),
        plots.Lines("Replicas asked for otherwise", "replicas", wanted("busy share alone", "wait alone", _DEFAULT)),
        plots.Lines("Wait of a chunk for an executor", "seconds", waits),
        plots.Lines("One server, as recorded: busy share", "share", busy),
    ]
    minutes = [f"{COMPRESSED * i / 60:.0f}" for i in picked]
    return plots.lines(f"Autoscaling: {_SIZE:.0f} replicas' worth of a load", "minutes", minutes, panels, every=20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("autoscaling", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    if options.replay:
        recorded = read_json(options.json)
    else:
        command.writable(options.json)
        recorded = record(options.model, options.serve_options, prometheus.find(), options.pace)
        options.json.write_text(json.dumps(asdict(recorded)) + "\n", "utf-8")
    runs = run(recorded)
    found = rated(recorded, runs, turns(recorded))
    print(table(found))
    if options.document:
        markdown.rewrite(options.document, in_markdown(found), "autoscaling")
    if options.svg:
        options.svg.write_text(plot(recorded, runs), "utf-8")


def read_json(path: Path) -> Recorded:
    """What was recorded before. Raises MeasurementError, OSError."""
    if not path.exists():
        raise MeasurementError(f"{path} is not there: run it once without --replay")
    try:
        return Recorded(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise MeasurementError(f"{path} holds no record: {error}") from None


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("autoscaling", _HELP)
    parser.add_argument("--json", type=Path, default=RECORDED, help="what was recorded (default: %(default)s)")
    parser.add_argument(
        "--pace", type=command.number(float), default=0.0, help="milliseconds a token (default: the model's own time)"
    )
    parser.add_argument("--replay", action="store_true", help="simulate on that file, without a server")
    parser.add_argument("--svg", type=command.output, metavar="FILE", help="draw it there")
    parser.add_argument(
        "--document",
        type=markdown.page("autoscaling"),
        metavar="FILE",
        help="write the table into it, between its marks",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
