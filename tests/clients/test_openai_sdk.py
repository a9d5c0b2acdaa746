"""The `openai` package, as people use it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import openai
import pytest
import tiktoken

from service.cl100k import SPECIAL_TOKENS, read_tokens
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import DIMENSIONS, MODEL, PATIENCE, Server, cosines

PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
KEY = "sk-e2e-0123456789abcdef"


def connect(server: Server, key: str = "x") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=f"{server.url}/v1",
        api_key=key,
        timeout=PATIENCE,
        max_retries=0,
        http_client=openai.DefaultHttpxClient(trust_env=False),
    )


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    """No keys are set, so that any key will do."""
    with connect(server) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(launch: StartServer) -> Server:
    """A server with a key."""
    return launch(env={"EMBEDSERVE_API_KEYS": KEY})


@pytest.fixture(scope="module")
def encoder() -> tiktoken.Encoding:
    """What LangChain and others tokenise with, without its download."""
    ranks = {token: rank for rank, token in enumerate(read_tokens())}
    return tiktoken.Encoding("cl100k_base", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens=SPECIAL_TOKENS)


def as_vectors(reply: openai.types.CreateEmbeddingResponse) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([one.embedding for one in reply.data], dtype=np.float32)


def error_of(failure: openai.APIStatusError) -> dict[str, object]:
    body = failure.body
    assert isinstance(body, dict)
    assert set(body) - {"detail"} == {"message", "type", "param", "code"}
    return body


def test_default_is_base64(client: openai.OpenAI, golden: Golden) -> None:
    reply = client.embeddings.create(model=MODEL, input=golden.texts[0])
    assert reply.object == "list"
    assert reply.model == MODEL
    assert [one.object for one in reply.data] == ["embedding"]
    assert reply.usage.prompt_tokens == reply.usage.total_tokens == golden.tokens[0]
    assert np.abs(as_vectors(reply) - golden.vectors[:1]).max() <= 1e-4


def test_float(client: openai.OpenAI, golden: Golden) -> None:
    reply = client.embeddings.create(model=MODEL, input=golden.texts[1], encoding_format="float")
    assert np.abs(as_vectors(reply) - golden.vectors[1:2]).max() <= 1e-4


def test_list(client: openai.OpenAI, golden: Golden, record: Record) -> None:
    reply = client.embeddings.create(model=MODEL, input=golden.texts)
    record("openai", openai.__version__, "/v1/embeddings", as_vectors(reply), golden.vectors)
    assert [one.index for one in reply.data] == list(range(len(golden.texts)))
    assert np.abs(as_vectors(reply) - golden.vectors).max() <= 1e-4


def test_token_arrays_are_cl100k_base(client: openai.OpenAI, golden: Golden, encoder: tiktoken.Encoding) -> None:
    texts = [text for text in golden.texts if text]
    ids = [encoder.encode(text, disallowed_special=()) for text in texts]
    expected = golden.vectors[[golden.texts.index(text) for text in texts]]
    one = client.embeddings.create(model=MODEL, input=ids[0])
    assert cosines(as_vectors(one), expected[:1]).min() >= 0.99999
    many = client.embeddings.create(model=MODEL, input=ids)
    assert cosines(as_vectors(many), expected).min() >= 0.99999


def test_empty_text(client: openai.OpenAI) -> None:
    assert as_vectors(client.embeddings.create(model=MODEL, input="")).shape == (1, DIMENSIONS)
    assert as_vectors(client.embeddings.create(model=MODEL, input=["a", "", "b"])).shape == (3, DIMENSIONS)


def test_full_dimensions(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model=MODEL, input="a", dimensions=DIMENSIONS)
    assert as_vectors(reply).shape == (1, DIMENSIONS)


def test_dimensions_that_the_model_lacks(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as failure:
        client.embeddings.create(model=MODEL, input="a", dimensions=100)
    assert error_of(failure.value)["message"] == "This model does not support specifying dimensions."


def test_user_and_unknown_fields(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model=MODEL, input="a", user="me", extra_body={"novelty": {"a": [1]}})
    assert len(reply.data) == 1


def test_chunks(client: openai.OpenAI) -> None:
    text = "The cat sat by the sea. " * 40
    wish = {"return_chunks": True, "chunking": {"max_tokens": 64}}
    reply = client.embeddings.create(model=MODEL, input=text, encoding_format="float", extra_body=wish)
    chunks = (reply.data[0].model_extra or {})["chunks"]
    assert len(chunks) == 5
    alone = client.embeddings.create(model=MODEL, input=[text[one["start"] : one["end"]] for one in chunks])
    found = np.array([one["embedding"] for one in chunks], dtype=np.float32)
    assert cosines(found, as_vectors(alone)).min() >= 0.99999


def test_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as failure:
        client.embeddings.create(model="no-such-model", input="a")
    assert failure.value.code == "model_not_found"
    assert "`no-such-model`" in str(error_of(failure.value)["message"])


def test_as_many_inputs_as_openai_takes(client: openai.OpenAI) -> None:
    reply = client.embeddings.create(model=MODEL, input=[f"{i}" for i in range(2048)])
    assert len(reply.data) == 2048


def test_one_input_more(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=r"'\$\.input' is invalid"):
        client.embeddings.create(model=MODEL, input=["a"] * 2049)


def test_list_models(client: openai.OpenAI) -> None:
    (only,) = client.models.list().data
    assert (only.id, only.object, only.owned_by) == (MODEL, "model", "embedserve")
    assert only.created > 1_600_000_000


@pytest.mark.parametrize("name", [MODEL, f"sentence-transformers/{MODEL}"])
def test_retrieve_model_even_with_a_slash(client: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).id == MODEL
    assert len(client.embeddings.create(model=name, input="a").data) == 1


def test_retrieve_unknown_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as failure:
        client.models.retrieve("no/such model?")
    assert failure.value.code == "model_not_found"


def test_right_key(guarded: Server) -> None:
    with connect(guarded, KEY) as client:
        assert len(client.embeddings.create(model=MODEL, input="a").data) == 1
        assert len(client.models.list().data) == 1


def test_wrong_key(guarded: Server) -> None:
    wrong = "sk-wrong-0123456789"
    with connect(guarded, wrong) as client, pytest.raises(openai.AuthenticationError) as failure:
        client.embeddings.create(model=MODEL, input="a")
    assert failure.value.code == "invalid_api_key"
    message = str(error_of(failure.value)["message"])
    assert message.startswith("Incorrect API key provided: ")
    assert wrong not in message


def test_models_need_the_key_too(guarded: Server) -> None:
    with connect(guarded, "wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_no_key(guarded: Server) -> None:
    with connect(guarded) as client, pytest.raises(openai.AuthenticationError) as failure:
        client.embeddings.create(model=MODEL, input="a", extra_headers={"Authorization": openai.Omit()})
    error = error_of(failure.value)
    assert error["code"] is None
    assert str(error["message"]).startswith("You didn't provide an API key.")


def test_request_id_is_readable(client: openai.OpenAI) -> None:
    reply = client.embeddings.with_raw_response.create(model=MODEL, input="a")
    assert reply.request_id
    assert reply.request_id.startswith("req_")


def test_async_client(server: Server, golden: Golden) -> None:
    async def embed() -> list[openai.types.CreateEmbeddingResponse]:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1",
            api_key="x",
            timeout=PATIENCE,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        ) as client:
            return await asyncio.gather(*(client.embeddings.create(model=MODEL, input=text) for text in golden.texts))

    vectors = np.concatenate([as_vectors(reply) for reply in asyncio.run(embed())])
    assert np.abs(vectors - golden.vectors).max() <= 1e-4


def test_a_refused_request_does_not_spoil_the_connection(client: openai.OpenAI) -> None:
    for _ in range(3):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model=MODEL, input=[])
        assert len(client.embeddings.create(model=MODEL, input="a").data) == 1
