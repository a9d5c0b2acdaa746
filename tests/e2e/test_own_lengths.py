"""A model without Normalize whose pooling leaves the prompt out: the right vector in the right length, in each dialect.

OpenAI's, Cohere's and TEI's vectors have length one unless they are asked otherwise; the others follow the model.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.compile import compile_checkpoint
from service.tokenizer import Tokenizer
from tests.conftest import StartServer
from tests.e2e.process import Server
from tests.models import reference, tiny
from tests.models.tiny import HIDDEN, Tiny

PROMPTS = {"query": "find the river: ", "document": ""}
TEXTS = ("the river and the mill", "a")
LONG = "the mill grinds the corn of the town "
NAME = "tiny"


@pytest.fixture(scope="module")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("own-lengths")
    pooling = {"pooling_mode": "mean", "embedding_dimension": HIDDEN, "include_prompt": False}
    saved = {"prompts": PROMPTS, "similarity_fn_name": "dot", "matryoshka_dimensions": [8]}
    folder = Tiny(pooling=pooling, normalize=False, saved=saved).write(root / NAME)
    return compile_checkpoint(str(folder), cache_dir=root / "cache", say=lambda _: None)


@pytest.fixture(scope="module")
def served(launch: StartServer, bundle_folder: Path) -> Server:
    return launch(model=bundle_folder)


@pytest.fixture(scope="module")
def expected(bundle_folder: Path) -> Callable[..., reference.Wide]:
    """expected(text, prompt) by the reference in float64, of what follows [CLS] and the prompt."""
    tokenizer = Tokenizer(bundle_folder / "tokenizer.json")

    def vector(text: str, prompt: str = "") -> reference.Wide:
        alone, joined = (one.ids for one in tokenizer.encode([prompt, prompt + text], ["", ""], 0))
        row = [*tokenizer.prefix, *joined, *tokenizer.suffix]
        hidden = reference.hidden_states(row, tiny.weights(), tiny.config())
        return reference.pool(hidden, "mean", 1 + len(alone) if prompt else 0)

    return vector


def reply_of(server: Server, path: str, body: dict[str, Any]) -> Any:
    reply = server.post(path, body)
    assert reply.status_code == 200, reply.text
    return reply.json()


def openai(server: Server, text: str, **fields: Any) -> Any:
    return reply_of(server, "/v1/embeddings", {"model": NAME, "input": text, **fields})["data"][0]["embedding"]


def tei(server: Server, text: str, **fields: Any) -> Any:
    return reply_of(server, "/embed", {"inputs": text, **fields})[0]


def vertex(server: Server, text: str, **fields: Any) -> Any:
    path = f"/v1/projects/p/locations/l/publishers/google/models/{NAME}:predict"
    (found,) = reply_of(server, path, {"instances": [{"content": text, **fields}]})["predictions"]
    return found["embeddings"]["values"]


def gemini(server: Server, text: str, **fields: Any) -> Any:
    body = {"content": {"parts": [{"text": text}]}, **fields}
    return reply_of(server, f"/v1beta/models/{NAME}:embedContent", body)["embedding"]["values"]


def kserve_v1(server: Server, text: str) -> Any:
    return reply_of(server, f"/v1/models/{NAME}:predict", {"instances": [text]})["predictions"][0]


def kserve_v2(server: Server, text: str) -> Any:
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "data": [text]}
    return reply_of(server, f"/v2/models/{NAME}/infer", {"inputs": [tensor]})["outputs"][0]["data"]


def cohere(server: Server, text: str, input_type: str = "search_document") -> Any:
    body = {"model": NAME, "input_type": input_type, "texts": [text], "embedding_types": ["float"]}
    return reply_of(server, "/v2/embed", body)["embeddings"]["float"][0]


AS_THEY_ARE: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (vertex, {}),
    (gemini, {}),
    (kserve_v1, {}),
    (kserve_v2, {}),
    (openai, {"normalized": False}),
    (tei, {"normalize": False}),
]
OF_LENGTH_ONE: list[tuple[Callable[..., Any], dict[str, Any]]] = [(openai, {}), (tei, {}), (cohere, {})]
AS_QUERIES: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (openai, {"prompt_name": "query", "normalized": False}),
    (tei, {"prompt_name": "query", "normalize": False}),
    (vertex, {"task_type": "RETRIEVAL_QUERY"}),
    (gemini, {"taskType": "RETRIEVAL_QUERY"}),
]


@pytest.mark.parametrize(("ask", "fields"), AS_THEY_ARE)
@pytest.mark.parametrize("text", TEXTS)
def test_dialects_that_follow_the_model(
    served: Server, expected: Callable[..., Any], ask: Callable[..., Any], fields: dict[str, Any], text: str
) -> None:
    wanted = expected(text)
    np.testing.assert_allclose(ask(served, text, **fields), wanted, atol=2e-5)
    assert abs(np.linalg.norm(wanted) - 1) > 0.5


@pytest.mark.parametrize(("ask", "fields"), OF_LENGTH_ONE)
@pytest.mark.parametrize("text", TEXTS)
def test_dialects_that_promise_length_one(
    served: Server, expected: Callable[..., Any], ask: Callable[..., Any], fields: dict[str, Any], text: str
) -> None:
    np.testing.assert_allclose(ask(served, text, **fields), reference.normalize(expected(text)), atol=1e-5)


@pytest.mark.parametrize(("ask", "fields"), AS_QUERIES)
@pytest.mark.parametrize("text", [*TEXTS, ""])
def test_prompts_are_read_and_not_pooled(
    served: Server, expected: Callable[..., Any], ask: Callable[..., Any], fields: dict[str, Any], text: str
) -> None:
    wanted = expected(text, PROMPTS["query"])
    np.testing.assert_allclose(ask(served, text, **fields), wanted, atol=2e-5)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(wanted, expected(PROMPTS["query"] + text), atol=1e-2)


@pytest.mark.parametrize("prompt", ["query", "document"])
def test_every_chunk_has_the_prompt_before_it(served: Server, expected: Callable[..., Any], prompt: str) -> None:
    """And the chunks' mean is no vector of length one either."""
    fields = {"prompt_name": prompt, "normalized": False, "return_chunks": True}
    body = {"model": NAME, "input": LONG * 2, **fields}
    data = reply_of(served, "/v1/embeddings", body)["data"][0]
    chunks = data["chunks"]
    assert len(chunks) > 2
    wanted = [expected((LONG * 2)[one["start"] : one["end"]], PROMPTS[prompt]) for one in chunks]
    np.testing.assert_allclose([one["embedding"] for one in chunks], wanted, atol=2e-5)
    mean = np.average(wanted, axis=0, weights=[one["token_count"] for one in chunks])
    np.testing.assert_allclose(data["embedding"], mean, atol=2e-5)


def test_late_chunking_is_refused(served: Server) -> None:
    reply = served.post("/v1/embeddings", {"model": NAME, "input": LONG, "late": True})
    assert reply.status_code == 400
    assert "mean of its tokens" in reply.text


def test_dimensions_are_cut_and_normalised_as_the_model_is(served: Server, expected: Callable[..., Any]) -> None:
    cut = expected(TEXTS[0])[:8]
    np.testing.assert_allclose(openai(served, TEXTS[0], dimensions=8, normalized=False), cut, atol=2e-5)
    np.testing.assert_allclose(openai(served, TEXTS[0], dimensions=8), reference.normalize(cut), atol=1e-5)


def test_what_is_told_of_the_model(served: Server) -> None:
    found = served.http.get("/info").json()
    assert found["similarity_fn_name"] == "dot"
    assert found["model_type"] == {"embedding": {"pooling": "mean"}}


def test_a_prompt_and_a_text_of_the_same_tokens_are_not_one_row(served: Server, expected: Callable[..., Any]) -> None:
    """One request with the prompt, and one whose text begins with its words."""
    body = {"inputs": [PROMPTS["query"] + "mill", "mill"], "normalize": False}
    plain = reply_of(served, "/embed", body)
    prompted = tei(served, "mill", prompt_name="query", normalize=False)
    np.testing.assert_allclose(plain[0], expected(PROMPTS["query"] + "mill"), atol=2e-5)
    np.testing.assert_allclose(prompted, expected("mill", PROMPTS["query"]), atol=2e-5)
