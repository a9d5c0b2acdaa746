"""The server's throughput and latency beside what the runtime alone can do on the same bundle and texts.

Each round measures the ceiling and every load on the same texts, in turns, so that a machine that is busy elsewhere
disturbs both; figures are medians over the rounds, and ratios are taken within them.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import service
from loadtest import command, figures, generator
from loadtest.client import Job, Result, percentile
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.generator import checked
from loadtest.raw import Ceiling
from loadtest.report import Raw, Round, Served, machine, summary, table
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import BULK, SINGLES, Mix, Text, Texts
from service.bundle import TOKENIZER_JSON, Bundle, read_bundle
from service.cores import usable_cores
from service.precision import Precision
from service.runtime.session import runtime_version
from service.tokenizer import Tokenizer

BUDGETS = (256, 512, 1024)
PATH = "/v1/embeddings"
SEED = 20_240_229
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
"""Those of a CPU, which is what raw.py measures."""
_PATIENT = ("--request-timeout", "3600", "--max-queue-seconds", "3600")  # nothing is refused, however slow the machine
_SPARE = 1.3  # texts drawn over what the ceiling could use up
_AROUND = 3.0  # seconds that a load begins before and lasts after its window
SAMPLES = 4  # answers of each load that are compared with the ceiling's vectors
_ALIKE = 0.9999  # cosine of those
# What is asked of it.
_SHARES_OF_R = {"bulk": 0.95, "single": 0.85}
_COMPUTED = 1.05
_FASTER = {"int8": 2.2}  # than the first precision
_RAW_SECONDS = 0.15  # for each budget, before a load and again behind it, as a share of --seconds


@dataclass(frozen=True, slots=True)
class Load:
    """What clients do, for how many times --seconds: a window of bulk must hold many batches of long rows."""

    name: str
    mix: Mix
    texts_per_request: int
    connections: int
    times: float
    every_precision: bool = False


LOADS = (
    Load("bulk", BULK, 64, 4, 2, every_precision=True),
    Load("single", SINGLES, 1, 64, 1),
    Load("latency", SINGLES, 1, 1, 0.6),
)

_HELP = """\
Measure a server of its own, started and stopped by this command, beside the raw runtime.

  ceiling R   session.run alone on the same bundle and texts, pre-tokenised, one thread per core
  bulk        64 texts of 8-250 tokens a request, 4 connections; for every precision
  single      one text of 8-24 tokens a request, 64 connections
  latency     one text of 8-24 tokens a request, 1 connection

All texts are distinct. Some answers are compared with the raw runtime's vectors; a wrong one, or any status but 200,
ends the benchmark with exit status 1.
"""
_EXAMPLES = """\
examples:
  python -m loadtest.throughput
  python -m loadtest.throughput --rounds 5 --seconds 10 --precisions fp32
  python -m loadtest.throughput -- --max-batch-tokens 1024 --executors 1      (after --: options of `embedserve serve`)
"""

_say = partial(command.say, "throughput")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("throughput", lambda: _bench(options))


def _bench(options: argparse.Namespace) -> None:
    started = time.monotonic()
    path = command.results_file(options.json, "throughput")
    # A bundle's folder is what it is, whatever precision is asked for.
    folders = list(dict.fromkeys(find_bundle(options.model, _say, precision) for precision in options.precisions))
    texts = Texts(Tokenizer(folders[0] / TOKENIZER_JSON), SEED)
    with _subjects(folders, options.serve_options) as subjects:
        bench = _Rounds(options, texts, subjects)
        _say(f"{', '.join(one.precision for one in subjects)}; {usable_cores()} cores; {options.rounds} rounds")
        rounds = [bench.measure(number) for number in range(options.rounds)]
    found = summary(rounds)
    details = {
        "machine": {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()},
        "setup": {"model": subjects[0].bundle.model_id, "encoding_format": options.encoding_format}
        | {"seconds": options.seconds, "rounds": options.rounds, "serve_options": options.serve_options},
        "loads": [asdict(load) for load in LOADS],
        "summary": found,
        "rounds": [asdict(one) for one in rounds],
    }
    rated = list(rated_figures(found))
    figures.write_json(path, rated, details)
    print(table(found), "", figures.table(rated), sep="\n")
    print(f"\nMedians of {len(rounds)} rounds, {time.monotonic() - started:.0f} s in all; every round: {path}")


@dataclass(frozen=True, slots=True)
class Subject:
    """A bundle, served and raw."""

    precision: str
    bundle: Bundle
    ceiling: Ceiling
    server: Server


@contextlib.contextmanager
def _subjects(folders: Sequence[Path], serve_options: Sequence[str]) -> Iterator[list[Subject]]:
    """All of them at once; one that nobody asks anything of takes no time."""
    with contextlib.ExitStack() as stack:
        found = []
        for folder in folders:
            bundle = read_bundle(folder)
            ceiling = Ceiling(folder, bundle, usable_cores())
            server = stack.enter_context(embedserve(folder, (*_PATIENT, *serve_options)))
            found.append(Subject(bundle.precision, bundle, ceiling, server))
        yield found


class _Rounds:
    """Measures rounds, each on texts of its own."""

    def __init__(self, options: argparse.Namespace, texts: Texts, subjects: Sequence[Subject]) -> None:
        self._options = options
        self._texts = texts
        self._subjects = subjects
        self._tasks = [(load, one) for load in LOADS for one in (subjects if load.every_precision else subjects[:1])]
        # A first look at each mix: warms up, and says how many texts a load can use up.
        self._rates = {
            (load.mix.name, one.precision): one.ceiling.tokens(texts.draw(256, load.mix), BUDGETS[0], 0.5).per_second
            for load, one in self._tasks
        }

    def measure(self, number: int) -> Round:
        """Half of a ceiling's time comes before its load and half behind it, so that a drift favours neither."""
        found = Round({}, {}, {})
        for load, one in self._tasks:
            _say(f"round {number + 1}: {load.name} {one.precision}")
            requests = self._requests(load, one)
            texts = [text for request in requests for text in request]
            name, key = f"{load.name} {one.precision}", f"{load.mix.name} {one.precision}"
            if load.connections > 1:
                before = self._raw(one.ceiling, texts)
                found.served[name] = self._serve(load, one, requests)
                found.raw[key] = before.mean(self._raw(one.ceiling, texts))
            else:  # the lone connection: its ceiling is the time of one run
                times = self._raw_latencies(one.ceiling, texts)
                found.served[name] = self._serve(load, one, requests)
                times += self._raw_latencies(one.ceiling, texts)
                found.raw_latencies[key] = percentile(times, 50), percentile(times, 99)
        return found

    def _requests(self, load: Load, one: Subject) -> list[list[Text]]:
        mean = (load.mix.shortest + load.mix.longest) / 2
        seconds = self._options.seconds * load.times + _AROUND
        per_second = self._rates[load.mix.name, one.precision] / mean / load.texts_per_request
        count = 8 * load.connections + math.ceil(per_second * seconds * _SPARE)
        texts = self._texts.draw(count * load.texts_per_request, load.mix)
        return [texts[i : i + load.texts_per_request] for i in range(0, len(texts), load.texts_per_request)]

    def _raw(self, ceiling: Ceiling, texts: Sequence[Text]) -> Raw:
        seconds = self._options.seconds * _RAW_SECONDS
        rates = {budget: ceiling.tokens(texts, budget, seconds) for budget in BUDGETS}
        return Raw(rates, sum(len(text.ids) for text in texts) / len(texts))

    def _raw_latencies(self, ceiling: Ceiling, texts: Sequence[Text]) -> list[float]:
        """Milliseconds."""
        return [1e3 * one for one in ceiling.latencies(texts, self._options.seconds * _RAW_SECONDS)]

    def _serve(self, load: Load, one: Subject, requests: Sequence[Sequence[Text]]) -> Served:
        job = Job(
            host=one.server.host,
            port=one.server.port,
            path=PATH,
            connections=load.connections,
            seconds=self._options.seconds * load.times,
            bodies=[body_of(request, self._options.encoding_format) for request in requests],
            tokens=[sum(len(text.ids) for text in request) for request in requests],
            sampled=list(range(SAMPLES)),
            server_pid=one.server.pid,
            counts_parts=load.texts_per_request > 1,
        )
        before = one.server.counters()
        result = generator.run(job)
        after = one.server.counters()
        check(load.name, requests, result, one.ceiling)
        batches = {name: after[name] - before[name] for name in after}
        return Served(replace(result, samples={}), load.mix.name, one.precision, load.texts_per_request, batches)


def rated_figures(found: Mapping[str, Any]) -> Iterator[Figure]:
    """The summary's figures, with what is asked of them."""
    for key, raw in found["raw"].items():
        yield Figure("ceiling R", key, raw["tokens_per_second"], "tokens/s")
    for key, one in found["served"].items():
        load, _, precision = key.partition(" ")
        if load == "latency":
            alone = found["raw_latency"][f"{SINGLES.name} {precision}"]
            yield Figure(key, "p50", one["p50"], "ms")
            yield Figure(key, "p50 over session.run's", alone["served_over_p50"], "ms", at_most=1.0)
            yield Figure(key, "p99", one["p99"], "ms")
            continue
        yield Figure(key, "throughput", one["tokens_per_second"], "tokens/s")
        yield Figure(key, "÷ R", one["ratio_to_raw"], "", at_least=_SHARES_OF_R[load])
        if one["cpu_ratio_to_raw"] is not None:
            yield Figure(key, "÷ R by CPU time", one["cpu_ratio_to_raw"], "")
        if one["padding"] is not None:
            yield Figure(key, "computed ÷ real tokens", 1 / (1 - one["padding"]), "", at_most=_COMPUTED)
        yield Figure(key, "load generator", 100 * one["client_cores"] / usable_cores(), "% of all cores")
    for precision, ratio in found["precisions"].items():
        yield Figure(precision, f"R ÷ R of {ratio['than']}", ratio["raw"], "×")
        yield Figure(
            precision, f"bulk ÷ bulk of {ratio['than']}", ratio["served"], "×", at_least=_FASTER.get(precision)
        )


def body_of(request: Sequence[Text], encoding_format: str | None) -> str:
    """A request in OpenAI's words. One text is sent as such, not as a list of one."""
    contents = [text.content for text in request]
    one_or_all = contents[0] if len(contents) == 1 else contents
    form = {"encoding_format": encoding_format} if encoding_format else {}
    return json.dumps({"input": one_or_all, **form}, ensure_ascii=False)


def check(name: str, requests: Sequence[Sequence[Text]], result: Result, ceiling: Ceiling) -> None:
    """Raises MeasurementError where the figures would not be of right answers to distinct texts."""
    checked(result, name)
    if result.repeated:
        raise MeasurementError(f"{name}: {result.repeated} requests were sent twice: too few were drawn")
    if not result.answered:
        raise MeasurementError(f"{name}: no answer in {result.seconds:g} s: give it more --seconds")
    for number, answer in result.samples.items():
        compare(name, json.loads(answer), ceiling.vectors(requests[int(number)]))


def compare(name: str, answer: Mapping[str, Any], expected: Any) -> None:
    """Raises MeasurementError where an answer is not the vectors that the runtime gives for its texts."""
    served = np.array([_vector(one["embedding"]) for one in answer["data"]], dtype=np.float64)
    if served.shape != expected.shape:
        raise MeasurementError(f"{name}: an answer holds an array of {served.shape} instead of {expected.shape}")
    norms = np.linalg.norm(served, axis=1) * np.linalg.norm(expected, axis=1)
    worst = float(np.min(np.sum(served * expected, axis=1) / norms))
    if not worst >= _ALIKE:
        raise MeasurementError(f"{name}: a vector differs from the runtime's own: cosine {worst:.6f}")


def _vector(embedding: str | list[float]) -> Any:
    return np.frombuffer(base64.b64decode(embedding), "<f4") if isinstance(embedding, str) else np.array(embedding)


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("throughput", _HELP, _EXAMPLES)
    parser.add_argument(
        "--precisions",
        type=command.some_of(PRECISIONS),
        default=list(PRECISIONS),
        help=f"bulk is measured for each (default: {','.join(PRECISIONS)})",
    )
    command.add_seconds(parser, 5.0, "of the single load")
    command.add_rounds(parser)
    parser.add_argument(
        "--encoding-format",
        choices=["base64", "float"],
        default="base64",
        help="asked of the server; the openai package asks for base64 (default: %(default)s)",
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
