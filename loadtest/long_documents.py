"""`make evaluate`: which document a passage is from, by each way of making vectors of long documents.

Everything is embedded by a server of this project over HTTP. The document vectors of `truncate` and `mean` are the
server's own; the other means and maxima are computed from the chunks' vectors that it returns, by the function that it
uses itself, after a look at a few documents that the server says the same.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import service
from loadtest import command, markdown
from loadtest.command import MeasurementError
from loadtest.local import urlopen
from loadtest.long_corpus import VARIANTS, Document, Query, documents, documents_in, half, queries
from loadtest.long_report import plot, tables
from loadtest.long_scores import Numbers, Positions, by_group, estimate, ranks, recall, reciprocal
from loadtest.report import machine
from loadtest.server import Server, embedserve, find_bundle
from service.choices import Aggregation
from service.chunking import aggregate
from service.runtime.session import runtime_version
from service.settings import DEFAULT_MODEL

DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLOT = "LONG_INPUT.md", "long-input-recall.svg"
OVERLAPS = (0, 10, 20)  # percent of the window
_SEED = 20_240_229
_ALIKE = 0.99999  # cosine of the server's own aggregates and ours
_COMPARED_DOCUMENTS = 4
_CONNECTIONS = 4
_PER_REQUEST = 64
_LATE_MAX_TOKENS = 64
_LATE_PER_DOCUMENT = 2
_LATE_FEWEST_WORDS = 10

TRUNCATE, FIRST, MAX, UNWEIGHTED = "truncate", "first", "max", "mean_unweighted"
COMPARED = (
    ("mean", TRUNCATE),
    ("mean", UNWEIGHTED),
    ("mean", MAX),
    ("best chunk", "mean"),
    ("mean, overlap 20 %", "mean"),
    ("best chunk, overlap 10 %", "best chunk"),
    ("best chunk, overlap 20 %", "best chunk"),
)
PLOTTED = (TRUNCATE, FIRST, MAX, UNWEIGHTED, "mean", "mean, overlap 20 %", "best chunk", "best chunk, overlap 20 %")

_HELP = """\
Rank long documents by passages from every depth of them, and count how often the right one comes first.

The documents: Python's language reference, docstrings of the standard library, licences of installed packages, the
World Factbook (a country each), the King James Bible (a book each); 2,000 to 20,000 tokens long. Or your own.

The queries: one or two sentences of 20 to 40 words from each tenth of each document, in three variants:
  whole       as they stand
  half        without half of their words, drawn at random
  keywords    six of their words, those that are in the fewest documents

The vectors, made by a server that this command starts and stops:
  truncate          of what the model reads at once, the beginning
  first             of the first chunk
  max               the maximum of the chunks' vectors in each dimension
  mean_unweighted   the mean of the chunks' vectors
  mean              the same, weighted by their tokens: what the server does unless told otherwise
  best chunk        none for the document: each chunk keeps its own, and the nearest one counts
"""
_EXAMPLES = f"""\
examples:
  make evaluate                                         rewrites the tables in docs/{PAGE} and docs/{PLOT}
  make evaluate ARGS=--quick                            a minute, few documents; writes neither
  make evaluate ARGS="--texts ~/manuals"                your own documents; writes neither
  make evaluate ARGS="--model BAAI/bge-small-en-v1.5"   another model; writes neither
"""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One input's answer: `vector` (1, dimensions), `chunks` (chunks, dimensions), none unless asked for."""

    vector: Numbers
    chunks: Numbers
    counts: Sequence[int]
    spans: Sequence[tuple[int, int]]
    late: bool | None


_say = partial(command.say, "evaluate")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 1 with a reason."""
    options = _parser().parse_args(arguments)
    return command.run("evaluate", lambda: _evaluate(options))


def _evaluate(options: argparse.Namespace) -> None:
    started = time.monotonic()
    path = command.results_file(options.json, "long-documents")
    per_kind, per_depth = (3, 1) if options.quick else (20, 2)
    _say("choosing documents and passages")
    corpus = documents_in(options.texts) if options.texts else documents(per_kind, _SEED)
    asked = queries(corpus, per_depth, _SEED)
    with embedserve(find_bundle(options.model, _say)) as server, _Client(server) as client:
        figures = _Evaluation(client, corpus, asked).figures()
    about = {"embedserve": service.__version__, "onnxruntime": runtime_version(), **machine()}
    path.write_text(json.dumps({"machine": about, "model": options.model, **figures}, indent=2) + "\n", "utf-8")
    written = tables(figures, options.model)
    print(written)
    if options.model == DEFAULT_MODEL and not (options.quick or options.texts):
        _write(written, figures)
    _say(f"{time.monotonic() - started:.0f} s in all; every figure: {path}")


def _write(written: str, figures: Mapping[str, Any]) -> None:
    markdown.rewrite(DOCS / PAGE, written, "evaluation")
    series = {name: figures["methods"][name]["half"]["recall_by_depth"] for name in PLOTTED}
    dashed = frozenset(name for name in PLOTTED if "overlap" in name)
    (DOCS / PLOT).write_text(
        plot("Right document first, by depth of the passage (half its words)", series, dashed), "utf-8"
    )


# --- the server -----------------------------------------------------------------------------------------------


class _Client:
    """Sends inputs, several requests at once, and shows how far it is."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(_CONNECTIONS)
        self._url = f"http://{server.host}:{server.port}"
        with urlopen(f"{self._url}/info", 10.0) as reply:
            self.max_input_length = int(json.load(reply)["max_input_length"])

    def __enter__(self) -> _Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)

    def embed(self, what: str, texts: Sequence[str], per_request: int = 1, **fields: Any) -> _Answers:
        """Raises MeasurementError."""
        parts = [texts[i : i + per_request] for i in range(0, len(texts), per_request)]
        before = self._server.counters()
        answers = list(
            tqdm(
                self._threads.map(lambda part: self._post({"input": part, **fields}), parts),
                total=len(parts),
                desc=f"evaluate: {what}",
                unit=" requests",
                leave=False,
            )
        )
        computed = self._server.counters()["computed_tokens_total"] - before["computed_tokens_total"]
        return _Answers(
            [_embedded(item) for answer in answers for item in answer["data"]],
            [answer["usage"]["prompt_tokens"] for answer in answers],
            computed,
        )

    def _post(self, body: Mapping[str, Any]) -> Any:
        request = urllib.request.Request(
            f"{self._url}/v1/embeddings", json.dumps(body).encode(), {"content-type": "application/json"}
        )
        try:
            with urlopen(request, 300.0) as reply:
                return json.load(reply)
        except OSError as error:
            raise MeasurementError(f"the server did not answer a request: {error}") from error


@dataclass(frozen=True, slots=True)
class _Answers:
    """`tokens`, one a request, are those of the texts; `computed` are those that the model ran over."""

    items: Sequence[Embedded]
    tokens: Sequence[int]
    computed: float

    @property
    def vectors(self) -> list[Numbers]:
        return [one.vector for one in self.items]

    @property
    def chunks(self) -> list[Numbers]:
        return [one.chunks for one in self.items]

    @property
    def ratio(self) -> float:
        """Tokens computed ÷ tokens."""
        return self.computed / sum(self.tokens)


def _embedded(item: Mapping[str, Any]) -> Embedded:
    vector = np.array([item["embedding"]])
    chunks = item.get("chunks", ())
    return Embedded(
        vector,
        np.array([chunk["embedding"] for chunk in chunks]).reshape(-1, vector.shape[1]),
        [chunk["token_count"] for chunk in chunks],
        [(chunk["start"], chunk["end"]) for chunk in chunks],
        item.get("late"),
    )


# --- the evaluation -------------------------------------------------------------------------------------------


class _Evaluation:
    """One corpus, one set of queries."""

    def __init__(self, client: _Client, corpus: Sequence[Document], asked: Sequence[Query]) -> None:
        self._client = client
        self._corpus = corpus
        self._asked = asked
        self._texts = [document.text for document in corpus]
        self._right = np.array([query.document for query in asked])
        self._window = client.max_input_length - 2  # [CLS] and [SEP], or what the model has in their place

    def figures(self) -> dict[str, Any]:
        """For the JSON file; the tables are made of it."""
        truncated = self._client.embed("truncate", self._texts, long_input="truncate")
        chunked = {share: self._chunked(share) for share in OVERLAPS}
        plain = chunked[0]
        methods = self._ranked(_matrices(truncated, chunked))
        return {
            "seed": _SEED,
            "corpus": self._described(plain.tokens),
            "queries": {"count": len(self._asked), "by_depth": [int(n) for n in np.bincount(self._depths)]},
            "window": self._window,
            "agreement": self._agreement(plain),
            "costs": {share: _cost(answers, len(self._texts)) for share, answers in chunked.items()},
            "near_10000_tokens": self._one_document(plain.tokens),
            "methods": {name: self._summary(found, plain.tokens) for name, found in methods.items()},
            "differences": [self._difference(methods, *pair) for pair in COMPARED],
            "late": self._late(plain),
        }

    @property
    def _depths(self) -> Positions:
        return np.array([query.depth for query in self._asked])

    def _chunked(self, share: int) -> _Answers:
        overlap = round(self._window * share / 100)
        return self._client.embed(f"overlap {share} %", self._texts, return_chunks=True, chunking={"overlap": overlap})

    def _agreement(self, plain: _Answers) -> dict[str, float]:
        """The least cosine between the server's aggregates and ours, of short documents. Raises MeasurementError."""
        few = sorted(range(len(self._texts)), key=lambda i: len(self._texts[i]))[:_COMPARED_DOCUMENTS]
        texts = [self._texts[i] for i in few]
        found = {}
        for way in Aggregation:
            served = self._client.embed(f"{way} as the server makes it", texts, chunking={"aggregation": way})
            ours = [_aggregated(plain.items[i], way) for i in few]
            found[str(way)] = min(float((a @ b.T).item()) for a, b in zip(served.vectors, ours, strict=True))
        if min(found.values()) < _ALIKE:
            raise MeasurementError(f"the server aggregates otherwise than service.chunking: cosines {found}")
        return found

    def _one_document(self, tokens: Sequence[int]) -> dict[str, Any]:
        """What the document whose length is nearest to 10,000 tokens costs, alone."""
        i = min(range(len(tokens)), key=lambda i: abs(tokens[i] - 10_000))
        alone = self._client.embed("one document", [self._texts[i]])
        return {"document": self._corpus[i].name, "tokens": tokens[i], "ratio": alone.ratio}

    def _ranked(self, methods: Mapping[str, Sequence[Numbers]]) -> dict[str, dict[str, Positions]]:
        """Ranks by method and variant."""
        asked = {
            variant: self._client.embed(
                f"queries, {variant}", [query.texts[variant] for query in self._asked], _PER_REQUEST
            )
            for variant in VARIANTS
        }
        vectors = {variant: np.concatenate(answers.vectors) for variant, answers in asked.items()}
        return {
            name: {variant: ranks(vectors[variant], self._right, matrices) for variant in VARIANTS}
            for name, matrices in methods.items()
        }

    def _summary(self, found: Mapping[str, Positions], tokens: Sequence[int]) -> dict[str, Any]:
        kinds = [self._corpus[i].kind for i in self._right]
        limits = np.quantile(tokens, [1 / 3, 2 / 3])
        thirds = np.digitize(np.array(tokens), limits)[self._right]
        return {
            variant: {
                "recall": asdict(estimate(recall(one), self._right)),
                "mrr": asdict(estimate(reciprocal(one), self._right)),
                "recall_by_depth": list(by_group(recall(one), self._depths).values()),
                "mrr_by_depth": list(by_group(reciprocal(one), self._depths).values()),
                "recall_by_kind": by_group(recall(one), kinds),
                "recall_by_length": list(by_group(recall(one), thirds).values()),
            }
            for variant, one in found.items()
        }

    def _difference(self, methods: Mapping[str, Mapping[str, Positions]], name: str, other: str) -> dict[str, Any]:
        """Of recall@1, query by query."""
        found = {
            variant: asdict(estimate(recall(methods[name][variant]) - recall(methods[other][variant]), self._right))
            for variant in VARIANTS
        }
        return {"method": name, "than": other, **found}

    def _described(self, tokens: Sequence[int]) -> dict[str, Any]:
        kinds = [document.kind for document in self._corpus]
        by_kind = {kind: [n for n, its in zip(tokens, kinds, strict=True) if its == kind] for kind in kinds}
        return {
            "documents": len(tokens),
            "tokens": sum(tokens),
            "limits_of_thirds": [float(n) for n in np.quantile(tokens, [1 / 3, 2 / 3])],
            "kinds": {
                kind: {"documents": len(n), "tokens": sum(n), "shortest": min(n), "longest": max(n)}
                for kind, n in by_kind.items()
            },
        }

    def _late(self, plain: _Answers) -> dict[str, Any]:
        """Chunks of passages that the model reads whole, found by half of their own words: late ones and usual ones."""
        passages, owners = self._late_passages(plain)
        usual, late = (
            self._client.embed(
                f"passages, {name}",
                passages,
                _PER_REQUEST,
                return_chunks=True,
                late=wanted,
                chunking={"max_tokens": _LATE_MAX_TOKENS},
            )
            for name, wanted in (("usual chunks", False), ("late chunks", True))
        )
        rng = random.Random(_SEED)
        chunks = [(i, text[slice(*span)].split()) for i, text in enumerate(passages) for span in usual.items[i].spans]
        right = np.array([number for number, (_, words) in enumerate(chunks) if len(words) >= _LATE_FEWEST_WORDS])
        clusters = np.array([owners[chunks[number][0]] for number in right])
        halves = [half(chunks[number][1], rng) for number in right]
        asked = np.concatenate(self._client.embed("queries of passages", halves, _PER_REQUEST).vectors)
        found = {
            name: ranks(asked, right, list(np.concatenate(answers.chunks)[:, np.newaxis]))
            for name, answers in (("usual", usual), ("late", late))
        }
        return {
            "max_tokens": _LATE_MAX_TOKENS,
            "passages": len(passages),
            "chunks": len(chunks),
            "queries": len(right),
            "read_whole": sum(one.late is True for one in late.items),
            **{f"{name}_recall": asdict(estimate(recall(one), clusters)) for name, one in found.items()},
            **{f"{name}_mrr": asdict(estimate(reciprocal(one), clusters)) for name, one in found.items()},
            "difference": asdict(estimate(recall(found["late"]) - recall(found["usual"]), clusters)),
        }

    def _late_passages(self, plain: _Answers) -> tuple[list[str], list[int]]:
        """Whole chunks that are nearly as long as a window, and the documents that they are from."""
        rng = random.Random(_SEED)
        passages, owners = [], []
        for i, one in enumerate(plain.items):
            long = [span for span, n in zip(one.spans, one.counts, strict=True) if n > self._window * 0.8]
            for span in rng.sample(long, min(_LATE_PER_DOCUMENT, len(long))):
                passages.append(self._texts[i][slice(*span)])
                owners.append(i)
        return passages, owners


def _matrices(truncated: _Answers, chunked: Mapping[int, _Answers]) -> dict[str, Sequence[Numbers]]:
    """What each method keeps of each document."""
    plain = chunked[0]
    found: dict[str, Sequence[Numbers]] = {TRUNCATE: truncated.vectors}
    for name, way in ((FIRST, Aggregation.FIRST), (MAX, Aggregation.MAX), (UNWEIGHTED, Aggregation.MEAN_UNWEIGHTED)):
        found[name] = [_aggregated(one, way) for one in plain.items]
    found |= {_named("mean", share): answers.vectors for share, answers in chunked.items()}
    found |= {_named("best chunk", share): answers.chunks for share, answers in chunked.items()}
    return found


def _named(method: str, share: int) -> str:
    return f"{method}, overlap {share} %" if share else method


def _aggregated(one: Embedded, way: Aggregation) -> Numbers:
    if len(one.chunks) == 1:
        return one.chunks
    return aggregate(one.chunks.astype(np.float32), one.counts, way)[np.newaxis].astype(np.float64)


def _cost(answers: _Answers, count: int) -> dict[str, float]:
    return {"ratio": answers.ratio, "chunks_per_document": sum(map(len, answers.chunks)) / count}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.long_documents",
        description=_HELP,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="what to serve (default: %(default)s)")
    parser.add_argument("--texts", type=Path, metavar="FOLDER", help="of .txt, .md and .rst files to evaluate with")
    parser.add_argument("--quick", action="store_true", help="few documents and passages")
    command.add_json(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
