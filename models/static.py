"""Static embeddings: vectors that are looked up and averaged, as a graph and a file of rows.

    plain      mean of the rows: word2vec, GloVe, sentence-transformers' StaticEmbedding, model2vec
    fastText   mean of the words' unit vectors; a word is the mean of its rows (`FastText::getSentenceVector`)

One row of zeros stands behind all others, for an id that is no token. What no token of a text has a row for does not
count; a text without any known token has the zero vector, as in these libraries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto

from models import heads
from models.checkpoint import Checkpoint
from models.graph import Graph
from models.modules import Head
from models.verify import GOLDEN_TEXTS, record_golden
from models.weights import Array
from service.bundle import OUTPUT, TOKEN_OUTPUT, TOKENIZER_JSON, WORDS_TXT, Bundle, Golden, WordRules

ROWS_FILE = "rows.f32"
MAX_SEQ_LENGTH = 65_536
"""Tokens of a row. The lookup itself knows no limit; this one keeps 300 dimensions below 80 MB a row."""

_SMALLEST = np.array(1e-12, np.float32)


def save_rows(folder: Path, blocks: Iterable[Array]) -> int:
    """Writes them one after another, and the row of zeros behind; the number of rows without that one."""
    count = width = 0
    with (folder / ROWS_FILE).open("wb") as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").data)
            count, width = count + len(block), block.shape[1]
        file.write(bytes(4 * width))
    return count


@dataclass(frozen=True)
class Static:
    """What a compile made of one source, beside the files it wrote. `words` is None where there is a tokenizer.json.

    `is_mean`: a vector is the mean of its tokens' vectors before any head. `sample` is a text of known words.
    """

    checkpoint: Checkpoint
    graph: Graph
    words: WordRules | None = None
    is_mean: bool = True
    sample: str = ""

    @property
    def files(self) -> list[str]:
        """That were written."""
        return [ROWS_FILE, WORDS_TXT if self.words else TOKENIZER_JSON]

    def golden(self, folder: Path, bundle: Bundle) -> Golden:
        """The bundle's own vectors, also of words that it knows for certain."""
        texts = (*GOLDEN_TEXTS, self.sample) if self.sample else GOLDEN_TEXTS
        return record_golden(folder, bundle, "compile", texts)


def as_config(rows: int, dimensions: int) -> dict[str, int]:
    """What config.json would say of so many ids, the last of which is no token."""
    return {
        "vocab_size": rows + 1,
        "hidden_size": dimensions,
        "max_position_embeddings": MAX_SEQ_LENGTH,
        "pad_token_id": rows,
    }


def plain(rows: int, dimensions: int, following: Sequence[Head] = (), ignored: int | None = None) -> Graph:
    """Ids below `rows` have one, `rows` itself is no token, and neither is `ignored`, whose row must be zero."""
    graph = Graph()
    ids = graph.input("input_ids")
    tokens = graph.op("Gather", _table(graph, rows, dimensions), ids)  # (rows, length, dimensions)
    counted = graph.op("Not", graph.op("Equal", ids, _int(graph, rows)))
    if ignored is not None:
        counted = graph.op("And", counted, graph.op("Not", graph.op("Equal", ids, _int(graph, ignored))))
    mean = _mean(graph, tokens, graph.cast(counted, TensorProto.FLOAT))
    return _finished(graph, heads.apply(graph, mean, following), tokens, dimensions)


def of_subwords(words: int, buckets: int, dimensions: int) -> Graph:
    """Ids as `service.vocabulary.Vocabulary` gives them: words, n-grams that begin a word, n-grams that continue it."""
    graph = Graph()
    ids = graph.input("input_ids")
    begins = graph.op("Less", ids, _int(graph, words + buckets))
    row = graph.op("Where", begins, ids, graph.op("Sub", ids, _int(graph, buckets)))
    rows = graph.op("Gather", _table(graph, words + buckets, dimensions), row)  # (rows, length, dimensions)
    shape = graph.op("Shape", ids)
    place = _places(graph, begins, shape)
    flat = graph.op("Reshape", rows, _ints(graph, -1, dimensions))
    nothing = graph.op("ConstantOfShape", graph.op("Shape", flat))
    total = graph.op("ScatterND", nothing, place, flat, reduction="add")  # a word's sum has the direction of its mean
    norm = graph.reduce("ReduceL2", total, -1, keepdims=1)  # (rows · length, 1)
    unit = graph.op("Div", total, graph.op("Max", norm, graph.constant(_SMALLEST)))
    has_norm = graph.cast(graph.op("Greater", norm, graph.constant(np.array(0, np.float32))), TensorProto.FLOAT)
    unit = graph.op("Reshape", unit, graph.op("Concat", shape, _ints(graph, dimensions), axis=0))
    return _finished(graph, _mean(graph, unit, graph.op("Reshape", has_norm, shape)), rows, dimensions)


def _places(graph: Graph, begins: str, shape: str) -> str:
    """Where each token's word is added up (rows · length, 1): the words of a row one after another from where the row
    begins. What stands before the first word of a row, if a chunk begins inside one, belongs to that."""
    number = graph.op("CumSum", graph.cast(begins, TensorProto.INT64), _int(graph, 1))
    word = graph.op("Max", graph.op("Sub", number, _int(graph, 1)), _int(graph, 0))  # (rows, length)
    count, length = (graph.op("Gather", shape, _int(graph, axis)) for axis in (0, 1))
    start = graph.op("Mul", graph.op("Range", _int(graph, 0), count, _int(graph, 1)), length)
    place = graph.op("Add", word, graph.op("Unsqueeze", start, _ints(graph, 1)))
    return graph.op("Reshape", place, _ints(graph, -1, 1))


def _mean(graph: Graph, vectors: str, counted: str) -> str:
    """(rows, length, dimensions), of which those that do not count are zero; (rows, length) → (rows, dimensions)."""
    total = graph.reduce("ReduceSum", vectors, 1)
    count = graph.reduce("ReduceSum", counted, 1, keepdims=1)  # (rows, 1)
    return graph.op("Div", total, graph.op("Max", count, graph.constant(np.array(1, np.float32))))


def _finished(graph: Graph, vector: str, tokens: str, dimensions: int) -> Graph:
    graph.output(vector, OUTPUT, "rows", "dimensions")
    graph.output(tokens, TOKEN_OUTPUT, "rows", "length", dimensions)
    return graph


def _table(graph: Graph, rows: int, dimensions: int) -> str:
    return graph.mapped("rows", ROWS_FILE, rows + 1, dimensions)


def _int(graph: Graph, value: int) -> str:
    return graph.constant(np.array(value, np.int64))


def _ints(graph: Graph, *values: int) -> str:
    return graph.constant(np.array(values, np.int64))
