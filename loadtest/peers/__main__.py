"""`make bench-peers`: the same loads against other servers of the same model, in one run.

All servers are started at the beginning; all but the one that is measured are stopped (SIGSTOP), so that none takes
time from another. A round measures one load on each of them in turn, with the same texts.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import service
from loadtest import command, figures, generator, markdown
from loadtest.client import Job, Result
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.local import free_port
from loadtest.peers.contestants import CONTESTANTS, Contestant, environment_variables, export
from loadtest.peers.report import OURS, plot, rated_figures, summary, tables
from loadtest.raw import Ceiling
from loadtest.report import machine
from loadtest.server import Server, answering, embedserve, find_bundle
from loadtest.texts import Text, Texts
from loadtest.throughput import BUDGETS, LOADS, PATH, SAMPLES, SEED, Load, body_of, check
from models.sources import locate
from service.bundle import TOKENIZER_JSON, read_bundle
from service.cores import usable_cores
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL, load_settings
from service.tokenizer import Tokenizer

DOCS = Path(__file__).parents[2] / "docs"
_LIMIT = 300.0  # seconds that all bulk requests may take
_AROUND = 3.0  # seconds that a load begins before and lasts after its window
_SPARE = 1.3  # texts drawn over what the ceiling could use up

_HELP = """\
Compare this server with others of the same model (fp32, normalised), on the same texts, in the same run. The first run
makes an environment for each in .venv-peers/; torch is large. TEI, vLLM and NIM are no packages that pip could install.

Rounds take turns, and tables show medians. Some answers of everyone are compared with the raw runtime's vectors. A run
of all loads and at least three rounds writes docs/PEERS.md anew, with a JSON file and a plot beside it.
"""

_say = partial(command.say, "bench-peers")


Round = dict[str, dict[str, Result]]
"""By load and server."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that runs: ours or another's."""

    name: str
    path: str
    server: Server


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("bench-peers", lambda: _compare(options))


def _compare(options: argparse.Namespace) -> None:
    path = command.results_file(options.add_to or options.json, "peers")
    contestants = [one for one in CONTESTANTS if one.name in options.peers]
    loads = [load for load in LOADS if load.name in options.only]
    earlier = _rounds_of(options.add_to, loads, contestants) if options.add_to else []
    folder = find_bundle(DEFAULT_MODEL, _say)
    checkpoint = locate(DEFAULT_MODEL, load_settings().cache_dir).folder
    for one in contestants:
        one.environment.make(_say)
        if one.needs_export:
            export(checkpoint, _say)
    with _peers(folder, checkpoint, contestants) as peers:
        bench = _Bench(folder, peers, options.seconds, options.bulk_requests)
        bench.warm_up()
        numbers = range(len(earlier), len(earlier) + options.rounds)
        rounds = earlier + [bench.measure(number, loads) for number in numbers]
    print(figures.table(_write(path, rounds, contestants, options.seconds)))
    print(f"\nMedians of {len(rounds)} rounds; every round: {path}")
    if len(rounds) >= 3 and len(loads) == len(LOADS) and len(contestants) == len(CONTESTANTS):
        _document(rounds, contestants)


def _write(path: Path, rounds: Sequence[Round], contestants: Sequence[Contestant], seconds: float) -> Sequence[Figure]:
    """The figures, which are in the file as well, with every round."""
    found = summary(rounds)
    rated = list(rated_figures(found))
    kept = [
        {load: {name: asdict(result) for name, result in results.items()} for load, results in one.items()}
        for one in rounds
    ]
    figures.write_json(path, rated, {**_about(contestants), "seconds": seconds, "summary": found, "rounds": kept})
    return rated


def _document(rounds: Sequence[Round], contestants: Sequence[Contestant]) -> None:
    """docs/PEERS.md anew, and what lies beside it."""
    found, about = summary(rounds), _about(contestants)
    figures.write_json(DOCS / "peers.json", rated_figures(found), {**about, "summary": found})
    (DOCS / "peers.svg").write_text(plot(found), "utf-8")
    markdown.rewrite(DOCS / "PEERS.md", tables(found, about), "peers")


def _about(contestants: Sequence[Contestant]) -> dict[str, Any]:
    """What was compared, where and when."""
    ours = {"embedserve": service.__version__, "onnxruntime": runtime_version()}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "settings": {one.name: one.settings for one in contestants},
        "versions": {OURS: ours} | {one.name: dict(one.environment.versions()) for one in contestants},
    }


def _rounds_of(path: Path, loads: Sequence[Load], contestants: Sequence[Contestant]) -> list[Round]:
    """What an earlier run measured; none where there was none. Raises MeasurementError where it measured something
    else: that has no medians together with what is to come."""
    if not path.exists():
        return []
    try:
        _, details = figures.read_json(path)
        found = [
            {load: {name: Result(**result) for name, result in results.items()} for load, results in one.items()}
            for one in details["rounds"]
        ]
    except (ValueError, TypeError, KeyError) as error:
        raise MeasurementError(f"{path} holds no rounds: {error!r}") from None
    names = {OURS, *(one.name for one in contestants)}
    for one in found:
        if set(one) != {load.name for load in loads} or any(set(results) != names for results in one.values()):
            raise MeasurementError(
                f"{path} holds rounds of other loads or servers: --only and --peers must be the same"
            )
    return found


@contextlib.contextmanager
def _peers(folder: Path, checkpoint: Path, contestants: Sequence[Contestant]) -> Iterator[list[Peer]]:
    with contextlib.ExitStack() as stack:
        found = [Peer(OURS, PATH, stack.enter_context(embedserve(folder)))]
        for one in contestants:
            _say(f"starting {one.name}")
            port = free_port()
            command_line = one.command(checkpoint, port)
            server = answering(command_line, environment_variables(), port, "/health", one.folder)
            found.append(Peer(one.name, one.path, stack.enter_context(server)))
        yield found


@contextlib.contextmanager
def _alone(peer: Peer, peers: Sequence[Peer]) -> Iterator[None]:
    """Everyone else's processes get no time meanwhile."""
    others = [other.server.pid for other in peers if other is not peer]
    try:
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


class _Bench:
    """Measures rounds, each on texts of its own that all servers get alike."""

    def __init__(self, folder: Path, peers: Sequence[Peer], seconds: float, bulk_requests: int) -> None:
        self._peers = peers
        self._seconds = seconds
        self._bulk_requests = bulk_requests
        self._texts = Texts(Tokenizer(folder / TOKENIZER_JSON), SEED)
        self._ceiling = Ceiling(folder, read_bundle(folder), usable_cores())

    def warm_up(self) -> None:
        """A bulk request to each, which does not count: what a server does for its first request would be in the first
        round, and so in every round of a run that adds one."""
        bulk = next(load for load in LOADS if load.texts_per_request > 1)
        request = self._texts.draw(bulk.texts_per_request, bulk.mix)
        for peer in self._peers:
            _say(f"warming up {peer.name}")
            with _alone(peer, self._peers):
                self._load(bulk, peer, [request])

    def measure(self, number: int, loads: Sequence[Load]) -> Round:
        """By load and server. Ours comes first in even rounds and last in odd ones."""
        found: Round = {}
        for load in loads:
            requests = self._requests(load)
            order = self._peers if number % 2 == 0 else self._peers[::-1]
            found[load.name] = {}
            for peer in order:
                _say(f"round {number + 1}: {load.name}, {peer.name}")
                with _alone(peer, self._peers):
                    found[load.name][peer.name] = self._load(load, peer, requests)
        return found

    def _requests(self, load: Load) -> list[list[Text]]:
        if load.texts_per_request > 1:
            texts = self._texts.draw(self._bulk_requests * load.texts_per_request, load.mix)
            return self._split(texts, load)
        rate = self._ceiling.tokens(self._texts.draw(256, load.mix), BUDGETS[0], 0.5).per_second
        per_second = 2 * rate / (load.mix.shortest + load.mix.longest)
        count = 8 * load.connections + math.ceil(per_second * (self._seconds * load.times + _AROUND) * _SPARE)
        return self._split(self._texts.draw(count, load.mix), load)

    def _split(self, texts: Sequence[Text], load: Load) -> list[list[Text]]:
        return [list(texts[i : i + load.texts_per_request]) for i in range(0, len(texts), load.texts_per_request)]

    def _load(self, load: Load, peer: Peer, requests: Sequence[Sequence[Text]]) -> Result:
        job = Job(
            host=peer.server.host,
            port=peer.server.port,
            path=peer.path,
            connections=load.connections,
            seconds=_LIMIT if load.texts_per_request > 1 else self._seconds * load.times,
            bodies=[body_of(request, None) for request in requests],
            tokens=[sum(len(text.ids) for text in request) for request in requests],
            sampled=list(range(SAMPLES)),
            server_pid=peer.server.pid,
            once=load.texts_per_request > 1,
        )
        result = generator.run(job)
        check(f"{load.name}, {peer.name}", requests, result, self._ceiling)
        return replace(result, samples={})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.peers", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    peers, loads = [one.name for one in CONTESTANTS], [load.name for load in LOADS]
    parser.add_argument("--peers", type=command.some_of(peers), default=peers, help=f"of {','.join(peers)}")
    parser.add_argument("--only", type=command.some_of(loads), default=loads, help=f"of {','.join(loads)}")
    command.add_seconds(parser, 5.0, "of the single load")
    parser.add_argument(
        "--bulk-requests",
        type=command.number(int, 1),
        default=12,
        help="of the bulk load, each sent once (default: %(default)s)",
    )
    command.add_rounds(parser)
    parser.add_argument(
        "--add-to",
        type=command.output,
        metavar="FILE",
        help="adds its rounds to an earlier run's: a machine can rest in between",
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
