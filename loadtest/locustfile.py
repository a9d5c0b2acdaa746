# mypy: disable-error-code="misc, untyped-decorator"
"""Users who search and who index, in both dialects, for locust.

    pip install 'embedserve[loadtest]'
    locust -f loadtest/locustfile.py --headless -u 32 -r 32 -t 30s --host http://127.0.0.1:8080 --html report.html

Every answer is looked at: its status, and that it holds as many vectors of one length as were asked for. The numbers
of a Python load generator on the server's own machine say what users feel, not what the server can do: for that
there is `make bench`.
"""

from __future__ import annotations

import base64
import os
import random
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import Any

from locust import FastHttpUser, between, task

DIMENSIONS = int(os.environ.get("EMBEDSERVE_BENCH_DIMENSIONS", "384"))
_WORDS = " ".join(topics.values()).split()
_SHAPE_ERRORS = (KeyError, IndexError, TypeError, ValueError)


def words(fewest: int, most: int) -> str:
    """That many words in a row, from anywhere in Python's documentation."""
    count = random.randint(fewest, most)
    start = random.randrange(len(_WORDS) - count)
    return " ".join(_WORDS[start : start + count])


def query() -> str:
    """What people type into a search box."""
    return words(4, 14)


def document() -> str:
    """A paragraph."""
    return words(40, 150)


def long_document() -> str:
    """A page or more, which does not fit the model's window."""
    return words(400, 1500)


class Client(FastHttpUser):
    """What both kinds of users know how to send."""

    abstract = True
    wait_time = between(0.0, 0.1)

    def openai(self, name: str, texts: Sequence[str], encoding_format: str = "base64") -> None:
        """Several texts as OpenAI's clients send them."""
        body = {"input": list(texts), "encoding_format": encoding_format}

        def lengths(answer: Any) -> list[int]:
            return [_length(one["embedding"]) for one in answer["data"]]

        self._post("/v1/embeddings", f"openai {name}", body, len(texts), lengths)

    def vertex(self, name: str, texts: Sequence[str], task_type: str) -> None:
        """Several texts as Google's clients send them."""
        path = "/v1/projects/p/locations/l/endpoints/1:predict"  # an endpoint of no name is the default model
        body = {"instances": [{"content": text, "task_type": task_type} for text in texts]}

        def lengths(answer: Any) -> list[int]:
            return [_length(one["embeddings"]["values"]) for one in answer["predictions"]]

        self._post(path, f"vertex {name}", body, len(texts), lengths)

    def _post(self, path: str, name: str, body: Any, count: int, lengths: Callable[[Any], list[int]]) -> None:
        with self.client.post(path, json=body, name=name, catch_response=True) as response:
            if response.status_code != 200:
                response.failure(f"status {response.status_code}: {(response.text or '')[:200]}")
                return
            try:
                found = lengths(response.json())
            except _SHAPE_ERRORS as error:
                response.failure(f"not an answer to {name}: {error!r}")
                return
            if found != [DIMENSIONS] * count:
                response.failure(f"{count} vectors of {DIMENSIONS} were asked for, lengths {found[:5]} came")


def _length(embedding: str | Sequence[float]) -> int:
    """Of a vector, as base64 of float32 or as numbers."""
    return len(base64.b64decode(embedding)) // 4 if isinstance(embedding, str) else len(embedding)


class Searcher(Client):
    """One short text at a time, and someone waits for it."""

    weight = 3

    @task(6)
    def search(self) -> None:
        """The openai package's form."""
        self.openai("query", [query()])

    @task(2)
    def search_as_floats(self) -> None:
        """What curl and most other clients ask for."""
        self.openai("query, float", [query()], "float")

    @task(3)
    def search_vertex(self) -> None:
        """Google's form."""
        self.vertex("query", [query()], "RETRIEVAL_QUERY")


class Indexer(Client):
    """Batches of documents, some of them longer than the model's window."""

    weight = 1

    @task(6)
    def index(self) -> None:
        """A batch of paragraphs."""
        self.openai("16 documents", [document() for _ in range(16)])

    @task(3)
    def index_vertex(self) -> None:
        """A batch as Vertex limits it."""
        self.vertex("5 documents", [document() for _ in range(5)], "RETRIEVAL_DOCUMENT")

    @task(1)
    def index_long(self) -> None:
        """One text of several windows."""
        self.openai("long document", [long_document()])
