"""Everything that speaks to OpenAI's routes, as unmodified packages in environments of their own."""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path

import pytest

from service.cl100k import read_tokens
from tests.clients.environments import Node, Python, have_node
from tests.clients.matrix import Record
from tests.conftest import PARITY, Golden, StartServer
from tests.e2e.process import MODEL, Server

pytestmark = pytest.mark.heavy

LANGCHAIN = Python(
    "langchain",
    (
        "openai==2.54.0",
        "langchain-openai==1.6.7",
        "langchain-community==0.4.2",
        "faiss-cpu==1.15.1",
        "langchain-milvus==0.4.0",
    ),
)
OTHERS = Python(
    "openai-users",
    (
        "openai==2.54.0",
        "haystack-ai==3.3.0",
        "llama-index-embeddings-openai-like==0.4.0",
        "litellm==1.101.6",
        "google-auth==2.40.3",
        "voyageai==0.5.0",
    ),
)
NODE = Node("openai", ("openai@7.57.0", "ai@7.0.173", "@ai-sdk/openai@4.0.118", "@ai-sdk/openai-compatible@3.0.92"))
needs_node = pytest.mark.skipif(not have_node(), reason="node and npm are not installed")

# litellm sends another body to Vertex models with "bge" in their names, and expects another reply.
BGE = "bge-alias"
# Where tiktoken would fetch its vocabulary; it names its cached copy by the sha1 of this.
CL100K = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"

# An answer's words are mostly not the question's.
SENTENCES = {
    "What do bees make out of nectar?": "Honey is stored in the hive's wax combs for the winter.",
    "Which planet is the largest?": "Jupiter outweighs everything else that circles the sun put together.",
    "How do I get my money back?": "Refunds are paid within fourteen days of returning the goods.",
    "Who painted the Mona Lisa?": "Leonardo da Vinci worked on his portrait of Lisa Gherardini for years.",
    "What keeps a plane in the air?": "Wings generate lift when air flows over them fast enough.",
    "Why is the sea salty?": "Rivers wash minerals from rocks into the ocean, where they remain.",
    "How can I change my password?": "Open the account settings and choose new login credentials.",
    "What is the capital of Japan?": "Tokyo has been the seat of the emperor since 1868.",
    "How long should pasta boil?": "Spaghetti is done after about nine minutes in bubbling water.",
    "What causes earthquakes?": "Tectonic plates that are stuck suddenly slip along a fault.",
    "How do vaccines work?": "They show the immune system a harmless piece of a germ to remember.",
    "Which animal runs fastest?": "A cheetah reaches over one hundred kilometres an hour in a sprint.",
    "Who wrote Hamlet?": "Shakespeare's tragedy about the Danish prince was first staged around 1600.",
    "How do I train for a marathon?": "Increase your weekly running distance slowly and rest before the race.",
    "Why do leaves turn red in autumn?": "As chlorophyll breaks down, other pigments in the foliage show.",
    "What does a database index do?": "It lets queries find rows without scanning the whole table.",
    "How is steel made?": "Iron is smelted from ore and its carbon content is reduced.",
    "When did people first walk on the moon?": "Armstrong and Aldrin left the lunar module in July 1969.",
    "How do I look after a cactus?": "Water succulents rarely and give them plenty of sunlight.",
    "What is inflation?": "Prices rise across the economy and money buys less.",
}


@dataclass(frozen=True)
class Client:
    """A script, and where it runs."""

    name: str
    environment: Python | Node
    script: str


CLIENTS = [
    Client("openai", LANGCHAIN, "openai_python.py"),
    Client("langchain-openai", LANGCHAIN, "langchain_embeddings.py"),
    Client("llama-index-embeddings-openai-like", OTHERS, "llama_index_embeddings.py"),
    Client("haystack-ai", OTHERS, "haystack_embedders.py"),
    Client("voyageai", OTHERS, "voyage_python.py"),
    pytest.param(Client("openai (npm)", NODE, "openai_node.mjs"), marks=needs_node),
    pytest.param(Client("ai (npm)", NODE, "ai_sdk.mjs"), marks=needs_node),
]


@pytest.fixture(scope="module")
def tiktoken_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which tiktoken finds cl100k_base without fetching it."""
    folder = tmp_path_factory.mktemp("tiktoken")
    lines = (b"%s %d\n" % (b64encode(token), rank) for rank, token in enumerate(read_tokens()))
    (folder / hashlib.sha1(CL100K.encode()).hexdigest()).write_bytes(b"".join(lines))
    return {"TIKTOKEN_CACHE_DIR": str(folder)}


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_client(server: Server, golden: Golden, record: Record, tiktoken_cache: dict[str, str], client: Client) -> None:
    found = client.environment.run(client.script, server.url, MODEL, str(PARITY / "texts.json"), env=tiktoken_cache)
    for route, vectors in found["vectors"].items():
        record(client.name, found["version"], route, vectors, golden.vectors)


def test_litellm(launch: StartServer, golden: Golden, record: Record) -> None:
    server = launch("--model-aliases", BGE)
    found = OTHERS.run("litellm_embedding.py", server.url, MODEL, str(PARITY / "texts.json"), BGE)
    for route, vectors in found["vectors"].items():
        record("litellm", found["version"], route, vectors, golden.vectors)


def test_vector_stores_find_the_right_sentence_first(server: Server, tmp_path: Path) -> None:
    questions = tmp_path / "questions.json"
    questions.write_text(json.dumps({"sentences": list(SENTENCES.values()), "questions": SENTENCES}), "utf-8")
    found = LANGCHAIN.run("vector_stores.py", server.url, MODEL, str(questions), str(tmp_path))
    assert found["wrong"] == {"FAISS": [], "Milvus Lite": []}
