# mypy: disable-error-code="misc, untyped-decorator"
"""Everyone a server may meet, for locust (`make load ARGS="--mix everyone"`): every dialect, short, long and bulk,
requests that must be refused, clients that leave in the middle, and deadlines that cannot be kept.

What must come is known for each: any other status, or vectors of another number or length, is a failure. Variables are
those of `locustfile.py`.
"""

from __future__ import annotations

import json
import os
import random
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from locust import between, task

from loadtest.locustfile import HEADERS, SHAPE, Client, document, long_document, query

if SHAPE:
    from loadtest.locustfile import Shape  # noqa: F401 - locust looks for it here

MODEL = os.environ.get("EMBEDSERVE_LOAD_MODEL", "all-MiniLM-L6-v2")
_KSERVE = f"/v2/models/{MODEL}/infer"
_TOO_SOON = (1, 2, 5, 10, 20)  # milliseconds
_REFUSED: tuple[tuple[str, str, str, Collection[int]], ...] = (
    ("not JSON", "/v1/embeddings", '{"input": "a', (400,)),
    ("wrong type", "/v1/embeddings", '{"input": {"a": 1}}', (400,)),
    ("no input", "/v1/embeddings", "{}", (400,)),
    ("unknown model", "/v1/embeddings", '{"input": "a", "model": "no-such-model-NUMBER"}', (404,)),
    ("wrong dimensions", "/v1/embeddings", '{"input": "a", "dimensions": 3}', (400,)),
    ("no instances", "/v1/projects/p/locations/l/endpoints/1:predict", '{"instances": 1}', (400,)),
    ("unknown path", "/v1/no-such-path-NUMBER", "{}", (404,)),
    ("wrong task", "/v1/rerank", '{"query": "a", "documents": ["b"]}', (400,)),
)


class Anyone(Client):
    """One who does all of it, a request or two a second."""

    wait_time = between(0.3, 1.0)

    @task(12)
    def search(self) -> None:
        """As most do."""
        self.openai("query", [query()], random.choice(("base64", "float")))

    @task(4)
    def search_vertex(self) -> None:
        """Google's form."""
        self.vertex("query", [query()], "RETRIEVAL_QUERY")

    @task(8)
    def search_elsewhere(self) -> None:
        """The other dialects, in turns."""
        name, path, body, lengths = random.choice(_DIALECTS)
        text = query()
        self._post(
            path, name, json.loads(body.replace("MODEL", MODEL).replace("TEXT", text.translate(_PLAIN))), 1, lengths
        )

    @task(2)
    def index(self) -> None:
        """A batch of paragraphs."""
        self.openai("8 documents", [document() for _ in range(8)])

    @task(1)
    def index_long(self) -> None:
        """One text of several windows."""
        self.openai("long document", [long_document()])

    @task(4)
    def err(self) -> None:
        """What is refused, each with a number of its own where there is a place for one."""
        name, path, body, statuses = random.choice(_REFUSED)
        number = str(random.getrandbits(40))
        self._expect(f"refused: {name}", path.replace("NUMBER", number), body.replace("NUMBER", number), statuses)

    @task(3)
    def hurry(self) -> None:
        """A deadline that may pass, or is refused as one that will, by a header."""
        body = json.dumps({"input": [document() for _ in range(4)]})
        header = {"x-request-timeout-ms": str(random.choice(_TOO_SOON))}
        self._expect("deadline", "/v1/embeddings", body, (200, 429, 504), header)

    @task(3)
    def leave(self) -> None:
        """With the head half sent, the body half sent, or the answer not waited for."""
        url = urlsplit(self.host)
        body = json.dumps({"input": [document() for _ in range(4)]}).encode()
        request = b"POST /v1/embeddings HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        with socket.create_connection((url.hostname or "", url.port or 80), timeout=10) as connection:
            connection.sendall(request[: random.choice((20, len(request) // 2, len(request)))])

    def _expect(
        self,
        name: str,
        path: str,
        body: str,
        statuses: Collection[int],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """A request whose statuses are known."""
        told = {"content-type": "application/json", **HEADERS, **(headers or {})}
        with self.client.post(path, data=body.encode(), headers=told, name=name, catch_response=True) as response:
            if response.status_code in statuses:
                response.success()
            else:
                response.failure(f"status {response.status_code}, not {statuses}: {(response.text or '')[:200]}")


_PLAIN = str.maketrans('"\\', "  ")  # a text that may stand between quotes
_Lengths = Callable[[Any], list[int]]
_DIALECTS: tuple[tuple[str, str, str, _Lengths], ...] = (
    (
        "gemini query",
        f"/v1beta/models/{MODEL}:embedContent",
        '{"content": {"parts": [{"text": "TEXT"}]}}',
        lambda answer: [len(answer["embedding"]["values"])],
    ),
    (
        "cohere query",
        "/v2/embed",
        '{"texts": ["TEXT"], "input_type": "search_query", "embedding_types": ["float"], "model": "MODEL"}',
        lambda answer: [len(one) for one in answer["embeddings"]["float"]],
    ),
    ("tei query", "/embed", '{"inputs": ["TEXT"]}', lambda answer: [len(one) for one in answer]),
    (
        "kserve query",
        _KSERVE,
        '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["TEXT"]}]}',
        lambda answer: [len(answer["outputs"][0]["data"])],
    ),
)
