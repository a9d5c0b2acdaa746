"""`make bench`: the server's throughput and latency beside what the runtime alone can do, in one run.

Each round measures the ceiling and every load on the same texts, in turns, so that a machine that is busy elsewhere
disturbs both; the table shows medians over the rounds, and ratios taken within them.
"""

from __future__ import annotations

import argparse
import base64
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import service
from loadtest import client, command
from loadtest.client import Job, Result, percentile
from loadtest.command import MeasurementError
from loadtest.raw import Ceiling
from loadtest.report import Raw, Round, Served, machine, summary, table, write_json
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import BULK, SINGLES, Mix, Text, Texts
from service.bundle import TOKENIZER_JSON, read_bundle
from service.cores import usable_cores
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL
from service.tokenizer import Tokenizer

RESULTS = Path(__file__).parent / "results"
BUDGETS = (256, 512, 1024)
_SEED = 20_240_229
_SPARE = 1.3  # texts drawn over what the ceiling could use up
_AROUND = 3.0  # seconds that a load begins before and lasts after its window
_SAMPLES = 4  # answers of each load that are compared with the ceiling's vectors
_ALIKE = 0.9999  # cosine of those
_PATH = "/v1/embeddings"


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do."""

    name: str
    mix: Mix
    texts_per_request: int
    connections: int


LOADS = (
    Load("single", SINGLES, 1, 64),
    Load("bulk", BULK, 64, 4),
    Load("latency", SINGLES, 1, 1),
)
MIXES = {load.mix.name: load.mix for load in LOADS}

_HELP = """\
Measure a server of its own, started and stopped by this command, beside the raw runtime.

  ceiling R   session.run alone on the same bundle and texts, pre-tokenised, one thread per core
  single      one text of 8-24 tokens a request, 64 connections
  bulk        64 texts of 8-250 tokens a request, 4 connections
  latency     one text of 8-24 tokens a request, 1 connection

All texts are distinct. Some answers are compared with the raw runtime's vectors; a wrong one, or any status but 200,
ends the benchmark with exit status 1.
"""
_EXAMPLES = """\
examples:
  make bench
  make bench ARGS="--rounds 5 --seconds 10"
  make bench ARGS="-- --max-batch-tokens 1024 --executors 1"      (after --: options of `embedserve serve`)
"""

_say = partial(command.say, "bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("bench", lambda: _bench(options))


def _bench(options: argparse.Namespace) -> None:
    started = time.monotonic()
    folder = find_bundle(options.model, _say)
    bundle = read_bundle(folder)
    cores = usable_cores()
    texts = Texts(Tokenizer(folder / TOKENIZER_JSON), _SEED)
    bench = _Rounds(options, texts, Ceiling(folder, bundle, cores))
    _say(
        f"{bundle.model_id}, {bundle.precision}, {cores} cores; {options.rounds} rounds of {options.seconds:g} s a load"
    )
    about = {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()}
    with embedserve(folder, options.serve_options) as server:
        rounds = [bench.measure(number, server) for number in range(options.rounds)]
    figures = summary(rounds, {load.name: load.mix.name for load in LOADS})
    setup = {"model": bundle.model_id, "precision": bundle.precision, "encoding_format": options.encoding_format}
    setup |= {"seconds": options.seconds, "serve_options": options.serve_options}
    path = options.json or RESULTS / time.strftime("bench-%Y%m%d-%H%M%S.json")
    write_json(path, {"machine": about, "setup": setup, "loads": [asdict(load) for load in LOADS]}, rounds, figures)
    print(table(figures))
    print(f"\nMedians of {len(rounds)} rounds, {time.monotonic() - started:.0f} s in all; every round: {path}")


class _Rounds:
    """Measures rounds, each on texts of its own."""

    def __init__(self, options: argparse.Namespace, texts: Texts, ceiling: Ceiling) -> None:
        self._options = options
        self._texts = texts
        self._ceiling = ceiling
        # A first look at each mix: warms up, and says how many texts a load can use up.
        self._rates = {
            name: ceiling.tokens(texts.draw(256, mix), BUDGETS[0], 0.5).per_second for name, mix in MIXES.items()
        }

    def measure(self, number: int, server: Server) -> Round:
        """Ceilings come first in even rounds and last in odd ones, so that a slow drift favours neither."""
        drawn = {load.name: self._requests(load) for load in LOADS}
        raw: dict[str, Raw] = {}
        served: dict[str, Served] = {}
        latencies: list[float] = []
        steps: list[tuple[Callable[[], None], Callable[[], None]]] = []
        for load in LOADS:
            requests = drawn[load.name]
            texts = [text for request in requests for text in request]

            def measure_raw(load: Load = load, texts: Sequence[Text] = texts) -> None:
                if load.mix.name not in raw:
                    raw[load.mix.name] = self._raw(texts)
                else:  # the lone connection: its ceiling is the time of one run
                    latencies.extend(self._ceiling.latencies(texts, self._options.seconds / 4))

            def measure_load(load: Load = load, requests: Sequence[Sequence[Text]] = requests) -> None:
                _say(f"round {number + 1}: {load.name}")
                served[load.name] = self._serve(load, requests, server)

            steps.append((measure_raw, measure_load))
        for pair in steps:
            for step in pair if number % 2 == 0 else pair[::-1]:
                step()
        milliseconds = [1e3 * one for one in latencies]
        return Round(raw, (percentile(milliseconds, 50), percentile(milliseconds, 99)), served)

    def _requests(self, load: Load) -> list[list[Text]]:
        mean = (load.mix.shortest + load.mix.longest) / 2
        seconds = self._options.seconds + _AROUND
        per_second = self._rates[load.mix.name] / mean / load.texts_per_request
        count = 4 * load.connections + math.ceil(per_second * seconds * _SPARE)
        texts = self._texts.draw(count * load.texts_per_request, load.mix)
        return [texts[i : i + load.texts_per_request] for i in range(0, len(texts), load.texts_per_request)]

    def _raw(self, texts: Sequence[Text]) -> Raw:
        seconds = self._options.seconds / len(BUDGETS)
        rates = {budget: self._ceiling.tokens(texts, budget, seconds) for budget in BUDGETS}
        return Raw(rates, sum(len(text.ids) for text in texts) / len(texts))

    def _serve(self, load: Load, requests: Sequence[Sequence[Text]], server: Server) -> Served:
        job = Job(
            host=server.host,
            port=server.port,
            path=_PATH,
            connections=load.connections,
            seconds=self._options.seconds,
            bodies=[self._body(request) for request in requests],
            tokens=[sum(len(text.ids) for text in request) for request in requests],
            sampled=list(range(_SAMPLES)),
            server_pid=server.pid,
        )
        before = server.counters()
        result = client.run(job)
        after = server.counters()
        self._check(load, requests, result)
        batches = {name: after[name] - before[name] for name in after if name in before}
        return Served(replace(result, samples={}), load.texts_per_request, batches)

    def _body(self, request: Sequence[Text]) -> str:
        contents = [text.content for text in request]
        one_or_all = contents[0] if len(contents) == 1 else contents
        return json.dumps({"input": one_or_all, "encoding_format": self._options.encoding_format}, ensure_ascii=False)

    def _check(self, load: Load, requests: Sequence[Sequence[Text]], result: Result) -> None:
        """Raises MeasurementError."""
        if result.failures:
            raise MeasurementError(f"{load.name}: not every answer is a 200: {result.failures}, {result.first_failure}")
        if result.repeated:
            raise MeasurementError(f"{load.name}: {result.repeated} requests were sent twice: too few were drawn")
        if not result.answered or not result.samples:
            raise MeasurementError(f"{load.name}: no answer in {result.seconds:g} s: give it more --seconds")
        for number, answer in result.samples.items():
            _compare(load, json.loads(answer), self._ceiling.vectors(requests[int(number)]))


def _compare(load: Load, answer: Mapping[str, Any], expected: Any) -> None:
    """Raises MeasurementError where an answer is not the vectors that the runtime gives for its texts."""
    served = np.array([_vector(one["embedding"]) for one in answer["data"]], dtype=np.float64)
    if served.shape != expected.shape:
        raise MeasurementError(f"{load.name}: an answer holds an array of {served.shape} instead of {expected.shape}")
    norms = np.linalg.norm(served, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(np.min(np.sum(served * expected, axis=1) / norms))
    if not worst >= _ALIKE:
        raise MeasurementError(f"{load.name}: a vector differs from the runtime's own: cosine {worst:.6f}")


def _vector(embedding: str | list[float]) -> Any:
    return np.frombuffer(base64.b64decode(embedding), "<f4") if isinstance(embedding, str) else np.array(embedding)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.bench",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what to serve (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load in each round (default: %(default)g)")
    parser.add_argument("--rounds", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument(
        "--encoding-format",
        choices=["base64", "float"],
        default="base64",
        help="asked of the server; the openai package asks for base64 (default: %(default)s)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="for every figure (default: a new file in results/)")
    parser.add_argument("serve_options", nargs="*", metavar="-- OPTION", help="options of `embedserve serve`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
