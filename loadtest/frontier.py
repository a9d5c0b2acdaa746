"""`python -m loadtest.frontier`: what 8 bits cost in agreement and gain in speed, for each way of having them.

Speed is that of `session.run` alone on the bulk mix, one thread per core, all graphs in turns. Agreement is between
vectors of real sentences and those of fp32: cosines, and the share of a sentence's ten nearest neighbours, among all
others, that stay the same.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import service
from loadtest import command, frontier_graphs, long_corpus
from loadtest.frontier_graphs import Graph
from loadtest.frontier_report import Point, plot, table
from loadtest.raw import Ceiling, Rate
from loadtest.report import machine
from loadtest.texts import BULK, Text, Texts
from models.sources import fetch, locate
from models.verify import MINIMUM_BATCH_COSINE, token_rows
from service.bundle import TOKENIZER_JSON
from service.cores import usable_cores
from service.encoder import Encoder
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL, load_settings
from service.tokenizer import Tokenizer

BUDGETS = (256, 512, 1024)
GOAL = 2.2, 0.95  # × fp32, agreement
_SEED = 0
_NEIGHBOURS = 10
_TEXTS = 300  # of the bulk mix
_BATCH_TOKENS = 1024
_ALONE = 200  # sentences that are also run alone

Vectors = NDArray[np.float64]  # (texts, dimensions), of length 1

_say = partial(command.say, "frontier")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("frontier", lambda: _measure(options))


def _measure(options: argparse.Namespace) -> None:
    data, picture = (command.writable(options.output / f"int8-frontier.{kind}") for kind in ("json", "svg"))
    cache_dir = load_settings().cache_dir
    fetch(options.model, cache_dir, _say)
    checkpoint = locate(options.model, cache_dir).folder
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        graphs = frontier_graphs.native(checkpoint, work)
        if options.export is not None:
            graphs += frontier_graphs.exported(checkpoint, options.export, work)
        rates = _speed(graphs, options.rounds, options.seconds)
        _say("vectors")
        points = _points(graphs, rates, long_corpus.sentences(options.sentences // 4, _SEED))
    about = {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()}
    setup = {"model": options.model, "rounds": options.rounds, "seconds": options.seconds, "budgets": BUDGETS}
    content = {"machine": about, "setup": setup, "graphs": [asdict(one) for one in points]}
    data.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    picture.write_text(plot(points, MINIMUM_BATCH_COSINE, GOAL), "utf-8")
    print(table(points))


# --- speed ----------------------------------------------------------------------------------------------------


def _speed(graphs: Sequence[Graph], rounds: int, seconds: float) -> dict[str, list[Rate]]:
    """Of each graph, one rate a round: the mean over the budgets."""
    ceilings = {one.name: Ceiling(one.folder, one.bundle, usable_cores(), one.execution) for one in graphs}
    texts = Texts(Tokenizer(graphs[0].folder / TOKENIZER_JSON), _SEED).draw(_TEXTS, BULK)
    found: dict[str, list[Rate]] = {name: [] for name in ceilings}
    for number in range(rounds):
        _say(f"round {number + 1}")
        names = list(ceilings)
        for name in names if number % 2 == 0 else names[::-1]:
            found[name].append(_rate(ceilings[name], texts, seconds))
    return found


def _rate(ceiling: Ceiling, texts: Sequence[Text], seconds: float) -> Rate:
    rates = [ceiling.tokens(texts, budget, seconds / len(BUDGETS)) for budget in BUDGETS]
    return Rate(
        statistics.fmean(one.per_second for one in rates), statistics.fmean(one.per_cpu_second for one in rates)
    )


# --- agreement ------------------------------------------------------------------------------------------------


def _points(graphs: Sequence[Graph], rates: Mapping[str, Sequence[Rate]], sentences: Sequence[str]) -> list[Point]:
    """The first graph is what the others are compared with."""
    exact, base = graphs[0], rates[graphs[0].name]
    rows = token_rows(exact.folder, exact.bundle, sentences)
    reference = _vectors(_encoder(exact), rows)
    neighbours = _nearest(reference)
    points = []
    for graph in graphs:
        encoder = _encoder(graph)
        vectors = _vectors(encoder, rows)
        cosines = (vectors * reference).sum(axis=1)
        alone = np.concatenate([_vectors(encoder, [row]) for row in rows[:: len(rows) // _ALONE]])
        mine = rates[graph.name]
        ratios = [one.per_second / other.per_second for one, other in zip(mine, base, strict=True)]
        by_cpu = [one.per_cpu_second / other.per_cpu_second for one, other in zip(mine, base, strict=True)]
        points.append(
            Point(
                name=graph.name,
                tokens_per_second=statistics.median(one.per_second for one in mine),
                ratio=statistics.median(ratios),
                lowest_ratio=min(ratios),
                highest_ratio=max(ratios),
                ratio_by_cpu=statistics.median(by_cpu),
                mean_cosine=float(cosines.mean()),
                worst_cosine=float(cosines.min()),
                agreement=_agreement(neighbours, _nearest(vectors)),
                worst_batch_cosine=float((alone * vectors[:: len(rows) // _ALONE]).sum(axis=1).min()),
            )
        )
    return points


def _encoder(graph: Graph) -> Encoder:
    return Encoder(graph.folder, graph.bundle, graph.execution)


def _vectors(encoder: Encoder, rows: Sequence[Sequence[int]]) -> Vectors:
    """In batches of rows of about one length."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    batches = []
    while order:
        most = max(1, _BATCH_TOKENS // len(rows[order[-1]]))  # rows: the longest stands last
        batches.append(order[-most:])
        del order[-most:]
    ran = np.concatenate([encoder.run([rows[i] for i in batch]) for batch in batches])
    found = np.empty(ran.shape)
    found[np.concatenate(batches)] = ran
    unit: Vectors = found / np.linalg.norm(found, axis=1, keepdims=True)
    return unit


def _nearest(vectors: Vectors) -> NDArray[np.int64]:
    """(texts, 10): the nearest others by cosine, in no order."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    return np.argpartition(-similar, _NEIGHBOURS, axis=1)[:, :_NEIGHBOURS]


def _agreement(left: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    """Mean share of common neighbours, 0 to 1."""
    shared = [len({*a} & {*b}) for a, b in zip(left.tolist(), right.tolist(), strict=True)]
    return statistics.fmean(shared) / _NEIGHBOURS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.frontier", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="a checkpoint (default: %(default)s)")
    parser.add_argument(
        "--export", type=Path, metavar="FILE", help="its model.onnx by optimum, for the ways that begin with an export"
    )
    command.add_rounds(parser, default=7)
    command.add_seconds(parser, 0.9, "of a graph in a round")
    parser.add_argument("--sentences", type=command.number(int, _ALONE), default=2400, help="(default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", default=Path("docs"), help="for JSON and plot (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
