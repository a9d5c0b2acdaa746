# mypy: disable-error-code="misc, untyped-decorator"
"""Users who search, who index, and who come in bursts, in both dialects, for locust.

`make load SHAPE=ramp` runs it on a server of its own; without a shape, locust's own options say how many users there
are (from the folder above this one):

    PYTHONPATH=. locust -f loadtest/locustfile.py --headless -u 32 -r 32 -t 30s --host http://127.0.0.1:8080

    EMBEDSERVE_LOAD_SHAPE          ramp, spike or soak (`shapes.py`); then these two hold instead of -u, -r and -t:
    EMBEDSERVE_LOAD_SECONDS        its length
    EMBEDSERVE_LOAD_USERS          at its peak
    EMBEDSERVE_LOAD_FAIL_RATIO     share of requests that may fail (0.01): where it or one of the next two is missed,
    EMBEDSERVE_LOAD_P95_MS         locust's exit status is 1, and a line on stderr says which
    EMBEDSERVE_LOAD_MIN_RPS        answers a second
    EMBEDSERVE_LOAD_API_KEY        sent as Authorization: Bearer, where the server wants one
    EMBEDSERVE_LOAD_MODEL          the name that is asked for where a name must be (all-MiniLM-L6-v2)
    EMBEDSERVE_BENCH_DIMENSIONS    of the vectors that must come (384); 0: whatever they are

Every answer is looked at: its status, and that it holds as many vectors of one length as were asked for. What is not
answered within a minute has failed, and is waited for at the end. The numbers
of a Python load generator on the server's own machine say what users feel, not what the server can do: for that
there is `make bench`.
"""

from __future__ import annotations

import base64
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pydoc_data.topics import topics
from typing import Any

import gevent
from locust import FastHttpUser, LoadTestShape, between, events, task

from loadtest.shapes import SECONDS, users_at
from loadtest.thresholds import Measured, from_environment

DIMENSIONS = int(os.environ.get("EMBEDSERVE_BENCH_DIMENSIONS", "384"))
SHAPE = os.environ.get("EMBEDSERVE_LOAD_SHAPE", "")
_KEY = os.environ.get("EMBEDSERVE_LOAD_API_KEY")
HEADERS = {"Authorization": f"Bearer {_KEY}"} if _KEY else {}
THRESHOLDS = from_environment(os.environ)
_BURST = 20
_LAST_SECONDS = 5.0  # for a request that has failed to be counted
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
    """What all kinds of users know how to send."""

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
        with self.client.post(path, json=body, name=name, headers=HEADERS, catch_response=True) as response:
            if response.status_code != 200:
                why = response.text or getattr(response, "error", "")
                response.failure(f"status {response.status_code}: {str(why)[:200]}")
                return
            try:
                found = lengths(response.json())
            except _SHAPE_ERRORS as error:
                response.failure(f"not an answer to {name}: {error!r}")
                return
            wanted = DIMENSIONS or max(found, default=0)
            if not wanted or found != [wanted] * count:
                response.failure(f"{count} vectors of {wanted} were asked for, lengths {found[:5]} came")


def _length(embedding: str | Sequence[float]) -> int:
    """Of a vector, as base64 of float32 or as numbers."""
    return len(base64.b64decode(embedding)) // 4 if isinstance(embedding, str) else len(embedding)


class Searcher(Client):
    """One short text at a time, and someone waits for it."""

    weight = 6

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

    weight = 2

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


class Burster(Client):
    """A page that asks for many things at once, and then for nothing for a while."""

    weight = 1
    wait_time = between(1.0, 3.0)
    concurrency = _BURST  # connections

    @task
    def burst(self) -> None:
        """Queries side by side, in either dialect."""
        senders = (
            lambda: self.openai("query in a burst", [query()]),
            lambda: self.vertex("query in a burst", [query()], "RETRIEVAL_QUERY"),
        )
        gevent.joinall([gevent.spawn(senders[i % 2]) for i in range(_BURST)])


if SHAPE:

    class Shape(LoadTestShape):
        """Users by the clock, as `shapes.py` has it. New ones come at once: the shape says how many at a time."""

        seconds = float(os.environ.get("EMBEDSERVE_LOAD_SECONDS") or SECONDS[SHAPE])
        peak = int(os.environ.get("EMBEDSERVE_LOAD_USERS", "32"))

        def tick(self) -> tuple[int, float] | None:
            """Users, and how many of them may come in a second."""
            users = users_at(SHAPE, self.get_run_time(), self.seconds, self.peak)
            return None if users is None else (users, self.peak)


@events.init.add_listener
def wait_for_answers(environment: Any, **_: Any) -> None:
    """What is in flight when a user goes is waited for, until it fails: locust would forget it, and a server that hangs
    would look as if it had answered everything."""
    environment.stop_timeout = max(environment.stop_timeout, Client.network_timeout + _LAST_SECONDS)


@events.test_stopping.add_listener
def end(environment: Any, **_: Any) -> None:
    """What comes later counts as an answer, and the time until then does not."""
    environment.ended = time.time()


@events.quitting.add_listener
def judge(environment: Any, **_: Any) -> None:
    """Locust's exit status: 1 where a threshold was missed, with a line for each."""
    total = environment.stats.total
    seconds = getattr(environment, "ended", time.time()) - total.start_time
    rps = (total.num_requests - total.num_failures) / max(seconds, 1e-9)
    p95 = total.get_response_time_percentile(0.95) or 0.0
    missed = list(THRESHOLDS.missed(Measured(total.num_requests, total.fail_ratio, p95, rps)))
    for line in missed:
        print(f"load: missed: {line}", file=sys.stderr, flush=True)
    environment.process_exit_code = int(bool(missed))
