"""`python -m loadtest.overload`: ten times as many requests as the server can answer, and what becomes of them."""

from __future__ import annotations

import argparse
import bisect
import math
import statistics
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path

from loadtest import client, command, figures
from loadtest.client import Job, percentile
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.flood import Flood, Flooded, Plan, Sent
from loadtest.generator import checked
from loadtest.process_watch import memory_of
from loadtest.report import machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import Mix, Texts
from loadtest.throughput import PATH, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.tokenizer import Tokenizer

_MIX = Mix("overload", 100, 200)
_TEXTS = 20_000
_CONNECTIONS = 16  # of the closed loop that measures the capacity
_CAPACITY_SECONDS = 8.0  # half of them before the burst, half behind it
_CALM, _AFTER = 4.0, 10.0  # seconds before and after the burst
_PART = 0.25  # of the capacity, asked for then
_HONEST = 4
_NEAR = 0.25  # seconds between a refusal and a request that was let in, to compare what was told with what came true
_SHARE_IN_TIME = 0.95  # of the requests sent after the burst

_HELP = f"""\
A server of its own; one text of 100-200 tokens a request. First its capacity, by {_CONNECTIONS} connections that send
one request after another. Then requests that wait for nobody: some a second, many times the capacity for some seconds,
and again some a second. Then the capacity once more.

  goodput ÷ peak    requests answered with 200 a second of the burst ÷ capacity
  told ÷ true       Retry-After of a refusal ÷ the time that the queue of that moment really took: that of the request
                    that was let in nearest to it
  honest            clients that come during the burst, wait as they are told and try again
  recovery          seconds from the burst's end until requests take at most twice the time of the slowest before it,
                    and 95 % of all that follow do so as well
  event loop        CPU time of the server's event loop ÷ requests sent, those that were let in included
  lost              requests without an answer, or with one other than 200 and 429
"""

_say = partial(command.say, "overload")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 with a reason, or where a target is missed."""
    options = _parser().parse_args(arguments)
    met: list[bool] = []
    return command.run("overload", lambda: met.append(_measure(options))) or int(not all(met))


def _measure(options: argparse.Namespace) -> bool:
    path = command.results_file(options.json, "overload")
    folder = find_bundle(options.model, _say)
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), SEED).draw(_TEXTS, _MIX)
    bodies = [body_of([text], "base64") for text in texts]
    tokens = [len(text.ids) for text in texts]
    with embedserve(folder, options.serve_options) as server:
        before = _capacity(server, bodies[: _TEXTS // 2], tokens[: _TEXTS // 2])
        rate = options.factor * before
        _say(f"capacity {before:.0f} requests/s; {rate:.0f} a second for {options.seconds:g} s")
        phases = ((_CALM, _PART * before), (options.seconds, rate), (_AFTER, _PART * before))
        plan = Plan(server.host, server.port, PATH, phases, bodies, _HONEST, 1)
        flooded, memory, loop_seconds = _flood(plan, server)
        after = _capacity(server, bodies[_TEXTS // 2 :], tokens[_TEXTS // 2 :])
    burst = Burst(_CALM, _CALM + options.seconds, flooded)
    rated = list(burst.figures((before + after) / 2, memory, loop_seconds))
    details = {
        "machine": machine(),
        "setup": {"seconds": options.seconds, "factor": options.factor, "serve_options": options.serve_options},
        "capacity": [before, after],
        "statuses": burst.statuses(),
        "second_by_second": burst.by_second(),
        "honest": [asdict(one) for one in flooded.honest],
        "memory": memory,
        "generator": {"cpu": flooded.cpu, "connections": flooded.connections, "unsent": flooded.unsent},
    }
    figures.write_json(path, rated, details)
    print(figures.table(rated))
    print(f"\nStatuses of the burst: {burst.statuses()}; capacity before and after: {before:.0f}, {after:.0f}; {path}")
    return all(one.met is not False for one in rated)


def _capacity(server: Server, bodies: Sequence[str], tokens: Sequence[int]) -> float:
    """Requests a second, closed loop. Raises MeasurementError."""
    job = Job(server.host, server.port, PATH, _CONNECTIONS, _CAPACITY_SECONDS / 2, bodies, tokens)
    return checked(client.run(job)).requests_per_second


def _flood(plan: Plan, server: Server) -> tuple[Flooded, list[float], float]:
    """What came of it; the server's memory in MB, every fifth of a second; seconds of CPU time of its event loop."""
    memory = [memory_of(server.pid)]
    before = _loop_seconds(server.pid)
    with Flood(plan) as flood:
        while not flood.wait(0.2):
            memory.append(memory_of(server.pid))
        return flood.result(), memory, _loop_seconds(server.pid) - before


def _loop_seconds(pid: int) -> float:
    """CPU time of a process's first thread, which is the event loop's."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1e9


@dataclass(frozen=True, slots=True)
class Burst:
    """What came of the requests that were sent from `begin` to `end`, seconds since the plan began."""

    begin: float
    end: float
    flooded: Flooded

    def figures(self, capacity: float, memory: Sequence[float], loop_seconds: float) -> Iterator[Figure]:
        """`capacity` in requests a second, `memory` in MB, CPU time of the event loop in seconds. Raises
        MeasurementError."""
        refused = [1e3 * one.took for one in self._of_burst() if one.status == 429]
        if not refused or self.flooded.unsent:
            raise MeasurementError(f"{len(refused)} refused, {self.flooded.unsent} not sent: that was no such load")
        served = sum(one.status == 200 and one.at + one.took < self.end for one in self._of_burst())
        yield Figure("overload", "goodput ÷ peak", served / (self.end - self.begin) / capacity, "×", at_least=0.90)
        yield Figure("", "refused", float(len(refused)), "requests")
        yield Figure("", "refusal p50", percentile(refused, 50), "ms", at_most=50)
        yield Figure("", "refusal p99", percentile(refused, 99), "ms")
        yield Figure("", "event loop ÷ requests", 1e6 * loop_seconds / len(self.flooded.sent), "µs")
        untold = sum(one.status == 429 and one.retry_after < 1 for one in self._of_burst())
        yield Figure("", "refused without Retry-After", float(untold), "requests", at_most=0)
        for name, ratios in self._told().items():
            yield Figure("", f"{name} told ÷ true, median", statistics.median(ratios), "×", 0.5, 2.0)
            within = sum(0.5 <= one <= 2 for one in ratios) / len(ratios)
            yield Figure("", f"{name} within a factor of two", within, "of refusals")
        served_ms = [1e3 * one.took for one in self._of_burst() if one.status == 200]
        yield Figure("", "served p50", percentile(served_ms, 50), "ms")
        yield Figure("", "served p99", percentile(served_ms, 99), "ms")
        yield Figure("", "recovery", self._recovery(), "s", at_most=1.0)
        yield Figure(
            "", "lost", float(sum(one.status not in (200, 429) for one in self.flooded.sent)), "requests", at_most=0
        )
        honest = self.flooded.honest
        yield Figure("", "honest clients' requests", float(len(honest)), "requests")
        yield Figure(
            "", "honest clients' failures", float(sum(one.status != 200 for one in honest)), "requests", at_most=0
        )
        tries = statistics.median(one.tries for one in honest) if honest else math.nan
        yield Figure("", "honest clients' tries, median", tries, "")
        yield Figure("", "memory before", memory[0], "MB")
        yield Figure("", "memory at most", max(memory), "MB")
        yield Figure("", "memory after", memory[-1], "MB")

    def statuses(self) -> dict[int, int]:
        """How often each; 0 is no answer."""
        return dict(Counter(one.status for one in self._of_burst()))

    def by_second(self) -> list[dict[str, float]]:
        """Of all phases, by when they were sent."""
        rows = []
        for second in range(math.ceil(max(one.at for one in self.flooded.sent))):
            sent = [one for one in self.flooded.sent if second <= one.at < second + 1]
            took = [1e3 * one.took for one in sent if one.status == 200]
            told = [one.retry_after_exactly for one in sent if one.status == 429]
            answered = sum(one.status == 200 and second <= one.at + one.took < second + 1 for one in self.flooded.sent)
            rows.append(
                {"sent": len(sent), "admitted": len(took), "answered": answered}
                | ({"p50": percentile(took, 50)} if took else {})
                | ({"told": statistics.median(told)} if told else {})
            )
        return rows

    def _of_burst(self) -> list[Sent]:
        return [one for one in self.flooded.sent if self.begin <= one.at < self.end]

    def _told(self) -> dict[str, list[float]]:
        """By header: what refusals were told ÷ the time of the request that was let in nearest to each."""
        served = sorted((one.at, one.took) for one in self._of_burst() if one.status == 200)
        times = [at for at, _ in served]
        ratios: dict[str, list[float]] = {"Retry-After": [], "retry-after-ms": []}
        for one in self._of_burst():
            place = bisect.bisect(times, one.at)
            near = [served[i] for i in (place - 1, place) if 0 <= i < len(served)]
            if one.status != 429 or not near:
                continue
            at, took = min(near, key=lambda pair: abs(pair[0] - one.at))
            if abs(at - one.at) <= _NEAR:
                ratios["Retry-After"].append(one.retry_after / took)
                ratios["retry-after-ms"].append(one.retry_after_exactly / took)
        return {name: found for name, found in ratios.items() if found}

    def _recovery(self) -> float:
        """Of the requests sent from then on, nearly all take no longer than twice the slowest before the burst."""
        before = [one.took for one in self.flooded.sent if one.at < self.begin and one.status == 200]
        if not before:
            raise MeasurementError("nothing was answered before the burst, so that nothing tells what recovered means")
        slowest = max(before)
        after = sorted((one for one in self.flooded.sent if one.at >= self.end), key=lambda one: one.at)
        good = [one.status == 200 and one.took <= 2 * slowest for one in after]
        still_good = list(accumulate(reversed(good)))[::-1]
        for i, one in enumerate(after):
            if good[i] and still_good[i] >= _SHARE_IN_TIME * (len(after) - i):
                return one.at + one.took - self.end
        return math.inf


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("overload", _HELP)
    command.add_seconds(parser, 60.0, "of the burst")
    parser.add_argument(
        "--factor", type=command.number(float, 1), default=10.0, help="× the capacity (default: %(default)g)"
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
