"""`python -m loadtest.capacity`: requests a second of one replica by the length of texts, and what follows from it."""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from loadtest import command, figures, generator, markdown
from loadtest.client import Job, Result
from loadtest.command import MeasurementError
from loadtest.figures import Figure
from loadtest.report import machine
from loadtest.server import Server, embedserve, find_bundle
from loadtest.texts import Mix, Text, Texts
from loadtest.throughput import PATH, PRECISIONS, SEED, body_of
from service.bundle import TOKENIZER_JSON
from service.cores import usable_cores
from service.tokenizer import Tokenizer

LENGTHS = (10, 50, 128, 512, 2000)  # tokens of a text
_SPREAD = 0.05  # by which a text's length may differ
_RATES = (1_000, 10_000, 100_000)  # requests a second, of the table
UTILISATION = 0.7  # what autoscaling aims at
_CONNECTIONS, _IN_FLIGHT = (2, 32), 4096  # fewest and most of them, and tokens under way: a full queue refuses
_DRAWN_TOKENS = 200_000  # of texts of one length; they are sent again when all have been
_MOST_DRAWN = 3_000

_HELP = f"""\
A server of each precision of its own. Each round sends, in turns, one text a request of {", ".join(map(str, LENGTHS))}
tokens over {_CONNECTIONS[0]} to {_CONNECTIONS[1]} connections; figures are medians of the rounds.

  requests/s   answered, as measured: the load generator has its part of the cores, and so has whatever else runs
  per core     answered for each second of CPU time of the server: what a core does that it has to itself
  replica      per core × the cores of a replica

The table of docs/CAPACITY.md goes by the last, which depends far less on what else the machine does:

  replicas = ceil(rate ÷ (replica × utilisation)), utilisation {UTILISATION}
  cost of a million texts = price of a replica's hour ÷ 3,600 × 1,000,000 ÷ (replica × utilisation)
"""

_say = partial(command.say, "capacity")


@dataclass(frozen=True, slots=True)
class Capacity:
    """Of texts of one length: requests a second, as measured, and for each second of a core's time."""

    precision: str
    tokens: int
    measured: float
    per_core: float

    def replica(self, cores: float) -> float:
        """Requests a second of one with so many cores."""
        return self.per_core * cores


def replicas(rate: float, of_one: float, utilisation: float = UTILISATION) -> int:
    """How many it takes for `rate` requests a second, if each of them does `of_one` when it is busy all the time."""
    return math.ceil(rate / (of_one * utilisation) - 1e-9)


def cost_of_a_million(price: float, of_one: float, utilisation: float = UTILISATION) -> float:
    """In the unit of `price`, which is that of one replica for an hour."""
    return price / 3600 * 1_000_000 / (of_one * utilisation)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("capacity", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    path = command.results_file(options.json, "capacity")
    found = measured(options)
    rated = [
        Figure(f"{one.precision}, {one.tokens} tokens", name, value, "requests/s")
        for one in found
        for name, value in (("measured", one.measured), ("per core", one.per_core))
    ]
    figures.write_json(path, rated, {"machine": machine(), "cores": options.cores, "price": options.price})
    text = tables(found, options.cores, options.price)
    print(text, end="")
    if options.document:
        markdown.rewrite(options.document, f"{_where()}\n\n{text}", "capacity")


def measured(options: argparse.Namespace) -> list[Capacity]:
    """Every precision and length, in rounds. Raises MeasurementError, RuntimeError."""
    folders = {precision: find_bundle(options.model, _say, precision) for precision in PRECISIONS}
    texts = Texts(Tokenizer(folders["fp32"] / TOKENIZER_JSON), SEED)
    drawn = {tokens: texts.draw(min(_MOST_DRAWN, _DRAWN_TOKENS // tokens), _mix(tokens)) for tokens in LENGTHS}
    results: dict[tuple[str, int], list[Result]] = {(p, n): [] for p in PRECISIONS for n in LENGTHS}
    with ExitStack() as stack:
        servers = {str(p): stack.enter_context(embedserve(folders[p], options.serve_options)) for p in PRECISIONS}
        for number in range(options.rounds):
            for (precision, tokens), of_it in results.items():
                job = _job(servers[precision], drawn[tokens], options.seconds)
                result = generator.checked(generator.run(job), f"{precision}, {tokens} tokens")
                of_it.append(result)
                _say(f"round {number + 1}, {precision}, {tokens} tokens: {result.requests_per_second:.0f} requests/s")
    return [
        Capacity(precision, tokens, statistics.median(map(_measured, of_it)), statistics.median(map(_per_core, of_it)))
        for (precision, tokens), of_it in results.items()
    ]


def _mix(tokens: int) -> Mix:
    return Mix(f"{tokens} tokens", math.floor(tokens * (1 - _SPREAD)), math.ceil(tokens * (1 + _SPREAD)))


def _job(server: Server, drawn: Sequence[Text], seconds: float) -> Job:
    bodies, lengths = [body_of([text], "base64") for text in drawn], [len(text.ids) for text in drawn]
    few = len(drawn) < _MOST_DRAWN  # and long: those that the window's edges cut must count in part
    connections = min(max(_IN_FLIGHT // lengths[0], _CONNECTIONS[0]), _CONNECTIONS[1])
    where = (server.host, server.port, PATH, connections, seconds)
    return Job(*where, bodies, lengths, server_pid=server.pid, counts_parts=few)


def _measured(result: Result) -> float:
    return result.requests_per_second


def _per_core(result: Result) -> float:
    if math.isnan(result.server_microseconds):
        raise MeasurementError("the server's CPU time cannot be read: this needs Linux")
    return 1e6 / result.server_microseconds


# --- the document ---------------------------------------------------------------------------------------------


def tables(found: Sequence[Capacity], cores: float, price: float) -> str:
    """In Markdown: what one replica does, how many it takes, and what a million texts cost."""
    made = (_of_one(found, cores), _of_many(found, cores), _costs(found, cores, price))
    return "\n".join(markdown.table(*one) for one in made)


Table = tuple[Sequence[str], Sequence[Sequence[str]]]


def _of_one(found: Sequence[Capacity], cores: float) -> Table:
    replica = f"a replica's ({cores:g} cores)"
    head = [*_HEAD, "requests/s per core", replica, f"{replica}, tokens/s", "measured beside other work"]
    rows = [
        [*_first(one), *map(_short, (one.per_core, one.replica(cores), one.replica(cores) * one.tokens, one.measured))]
        for one in found
    ]
    return head, rows


def _of_many(found: Sequence[Capacity], cores: float) -> Table:
    head = [*_HEAD, *(f"replicas for {rate:,} requests/s" for rate in _RATES)]
    return head, [[*_first(one), *(f"{replicas(rate, one.replica(cores)):,}" for rate in _RATES)] for one in found]


def _costs(found: Sequence[Capacity], cores: float, price: float) -> Table:
    head = [*_HEAD, f"a million texts, where a replica's hour costs {price:g}"]
    return head, [[*_first(one), f"{cost_of_a_million(price, one.replica(cores)):.3g}"] for one in found]


_HEAD = ("precision", "tokens of a text")


def _first(one: Capacity) -> tuple[str, str]:
    return one.precision, f"{one.tokens:,}"


def _short(value: float) -> str:
    """Three digits that count."""
    digits = 3 - len(str(int(value))) if value >= 1 else 3
    return f"{round(value, digits):,.{max(0, digits)}f}"


def _where() -> str:
    one = machine()
    load = f"load average {one['load_average']:.0f}"
    return f"Measured on {one['cores']} cores (CPU: {one['cpu']}), Python {one['python']}, {load} at the end."


def _parser() -> argparse.ArgumentParser:
    parser = command.parser("capacity", _HELP)
    command.add_rounds(parser)
    command.add_seconds(parser, 3.0, "of each load")
    parser.add_argument(
        "--cores", type=command.number(float, 0.1), default=usable_cores(), help="of a replica (default: %(default)s)"
    )
    parser.add_argument(
        "--price", type=command.number(float), default=1.0, help="of a replica's hour (default: %(default)g)"
    )
    parser.add_argument(
        "--document", type=markdown.page("capacity"), metavar="FILE", help="write the tables into it, between its marks"
    )
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
