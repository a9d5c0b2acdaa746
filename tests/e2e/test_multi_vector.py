"""/v1/multi-vector and /embed_all, on real servers with tiny models of vectors of tokens."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from models.compile import compile_checkpoint
from tests.conftest import StartServer
from tests.e2e.process import Server, assert_openai_error
from tests.models import late

WORDS: tuple[list[str], ...] = (["river"], ["river", ".", "mill", "!"], [*"abcdef"], [], ["river", "mill"] * 3)
TEXTS = [" ".join(words) for words in WORDS]
LONG = ["river", "mill", "."] * 9  # 27 tokens: two windows of a document
States = NDArray[np.float64]


@pytest.fixture(scope="module")
def servers(launch: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Server]:
    """One for each kind of files."""
    root = tmp_path_factory.mktemp("late")
    bundles = {
        kind: compile_checkpoint(
            str(late.write(kind, root / f"tiny-{kind}")), cache_dir=root, output=root / kind, say=print
        )
        for kind in late.KINDS
    }
    return {kind: launch("--max-inputs", "8", model=bundle) for kind, bundle in bundles.items()}


@pytest.fixture
def colbert(servers: Mapping[str, Server]) -> Server:
    return servers["colbert"]


def states_of(reply: httpx.Response) -> list[States]:
    """One matrix an input, with the envelope checked."""
    assert reply.status_code == 200, reply.text
    body = reply.json()
    assert set(body) == {"object", "model", "data", "usage"}
    assert [one["index"] for one in body["data"]] == list(range(len(body["data"])))
    assert all(set(one) == {"object", "index", "embeddings"} for one in body["data"])
    return [np.asarray(one["embeddings"]) for one in body["data"]]


def embed(server: Server, texts: Any, role: str, **fields: Any) -> list[States]:
    return states_of(server.post("/v1/multi-vector", {"input": texts, "input_type": role, **fields}))


def assert_close(found: States, wanted: States, tolerance: float = 1e-4) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, atol=tolerance)


@pytest.mark.parametrize("kind", late.KINDS)
@pytest.mark.parametrize("role", ["query", "document"])
def test_vectors_are_the_reference_s_alone_and_together(servers: Mapping[str, Server], kind: str, role: str) -> None:
    together = embed(servers[kind], TEXTS, role)
    alone = [embed(servers[kind], text, role)[0] for text in TEXTS]
    for words, one, other in zip(WORDS, together, alone, strict=True):
        assert_close(one, late.expected(kind, role, words))
        assert_close(other, one, 1e-6)
    rows = {len(one) for one in together}
    assert rows == {late.QUERY_LENGTH} if role == "query" else len(rows) > 2


def test_embed_all_tells_queries_by_their_prompt(colbert: Server) -> None:
    def all_of(**fields: Any) -> list[States]:
        return [np.asarray(one) for one in colbert.post("/embed_all", {"inputs": TEXTS, **fields}).json()]

    for fields, role in (
        ({}, "document"),
        ({"prompt_name": "document"}, "document"),
        ({"prompt_name": "query"}, "query"),
    ):
        for one, other in zip(all_of(**fields), embed(colbert, TEXTS, role), strict=True):
            assert_close(one, other, 1e-6)
    reply = colbert.post("/embed_all", {"inputs": "a", "prompt_name": "no"})
    assert (reply.status_code, reply.json()["error_type"]) == (422, "Validation")


def test_a_long_document_s_windows_stand_one_after_another(colbert: Server) -> None:
    room = late.DOCUMENT_LENGTH - 3
    reply = colbert.post("/v1/multi-vector", {"input": " ".join(LONG), "chunking": {"boundary": "token"}})
    parts = [late.expected("colbert", "document", LONG[start : start + room]) for start in range(0, len(LONG), room)]
    assert len(parts) > 1
    assert_close(states_of(reply)[0], np.concatenate(parts))
    assert "x-truncated-inputs" not in reply.headers
    assert reply.json()["usage"] == {"total_tokens": len(LONG) + 3, "prompt_tokens": len(LONG) + 3}


def test_what_is_cut_off_is_reported(colbert: Server) -> None:
    for role, fields in (("query", {}), ("document", {"long_input": "truncate"})):
        reply = colbert.post("/v1/multi-vector", {"input": [" ".join(LONG), "a"], "input_type": role, **fields})
        assert reply.headers["x-truncated-inputs"] == "1"
        assert_close(states_of(reply)[0], late.expected("colbert", role, LONG))


def test_other_forms_of_numbers_and_of_texts(colbert: Server) -> None:
    plain = embed(colbert, TEXTS, "document")
    objects = embed(colbert, [{"text": text} for text in TEXTS], "document", embedding_type=["float"])
    for one, other in zip(objects, plain, strict=True):
        assert_close(one, other, 1e-6)
    reply = colbert.post("/v1/multi-vector", {"input": TEXTS, "embedding_type": "base64"})
    for item, other in zip(reply.json()["data"], plain, strict=True):
        decoded = np.stack([np.frombuffer(base64.b64decode(row), "<f4") for row in item["embeddings"]])
        assert_close(decoded, other, 1e-6)
    whole = colbert.post("/v1/multi-vector", {"input": "a", "dimensions": late.WIDTH})
    assert states_of(whole)[0].shape == (4, late.WIDTH)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"input": []}, 400),
        ({"input": [1, 2]}, 400),
        ({"input": [{"image": "x"}]}, 400),
        ({"input": ["a"] * 9}, 400),
        ({"input": "a", "input_type": "passage"}, 400),
        ({"input": "a", "embedding_type": "float16"}, 400),
        ({"input": "a", "embedding_type": "ubinary"}, 400),
        ({"input": "a", "dimensions": 5}, 400),
        ({"input": "a", "model": "no"}, 404),
        ({"input": " ".join(LONG), "long_input": "reject"}, 400),
        ({"input": " ".join(LONG), "long_input": "reject", "input_type": "query"}, 400),
        ({"input": "a", "input_type": "query", "long_input": "chunk"}, 400),
        ({"input": "a", "chunking": {"aggregation": "max"}}, 400),
        ({"input": "a", "return_chunks": True}, 400),
        ({"input": "a", "late": True}, 400),
    ],
)
def test_bad_requests(colbert: Server, body: Any, status: int) -> None:
    assert_openai_error(colbert.post("/v1/multi-vector", body), status)


def test_who_gives_something_else_says_so(colbert: Server, server: Server) -> None:
    assert (
        "gives no vectors of tokens"
        in assert_openai_error(server.post("/v1/multi-vector", {"input": "a"}), 400)["message"]
    )
    assert "/v1/multi-vector" in assert_openai_error(colbert.post("/v1/embeddings", {"input": "a"}), 400)["message"]
    for path in ("/embed", "/embed_sparse"):
        assert colbert.post(path, {"inputs": "a"}).status_code == 424
    assert colbert.http.get("/v1/multi-vector").status_code == 405
    described = colbert.http.get("/openapi.json").json()["paths"]["/v1/multi-vector"]["post"]
    assert described["tags"] == ["jina"]


@pytest.mark.parametrize(("wrong", "said"), [({"input": []}, "input is empty"), ({"dimensions": 0}, "dimensions: ")])
def test_a_refusal_says_why_in_its_message(colbert: Server, wrong: dict[str, Any], said: str) -> None:
    error = assert_openai_error(colbert.post("/v1/multi-vector", {"input": "a", **wrong}), 400)
    assert error["message"].startswith(said)
    assert "detail" not in error
