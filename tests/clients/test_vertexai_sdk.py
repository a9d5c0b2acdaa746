"""google-cloud-aiplatform (vertexai) over REST: language models, endpoints, the prediction service."""

from __future__ import annotations

from typing import Any

import pytest

from tests.clients.environments import Python
from tests.clients.google import KEY, MODEL, google_server, without_empty
from tests.clients.matrix import Record
from tests.conftest import Golden, StartServer
from tests.e2e.process import Server

pytestmark = pytest.mark.heavy

# The last version 1: version 2 has no vertexai.language_models.
AIPLATFORM = Python("google-cloud-aiplatform", ("google-cloud-aiplatform==1.165.1",))


@pytest.fixture(scope="module")
def found(launch: StartServer, golden: Golden) -> Any:
    texts, _ = without_empty(golden)
    return AIPLATFORM.run("vertexai_client.py", google_server(launch).url, KEY, MODEL, f"{MODEL}@001", texts)


@pytest.mark.parametrize("route", ["TextEmbeddingModel", "TextEmbeddingModel@version", "Endpoint.predict"])
def test_vectors(found: Any, golden: Golden, record: Record, route: str) -> None:
    record("google-cloud-aiplatform", found["version"], route, found[route], without_empty(golden)[1])


@pytest.mark.parametrize("route", ["titled", "embedContent"])
def test_task_title_and_size(found: Any, server: Server, record: Record, route: str) -> None:
    record("google-cloud-aiplatform", found["version"], route, found[route], server.embed("Pets\ncats"))


def test_statistics(found: Any, golden: Golden) -> None:
    assert found["statistics"] == [[count, False] for count in golden.tokens[:2]]
    assert found["truncated"] == [True, 1002]
    assert found["embedContent tokens"] == 4


def test_metadata(found: Any, golden: Golden) -> None:
    assert found["metadata"] == {"billableCharacterCount": sum(len("".join(text.split())) for text in golden.texts)}


@pytest.mark.parametrize(
    ("case", "kind", "words"),
    [
        ("unknown", "NotFound", "Publisher Model `publishers/google/models/no-such-model` was not found"),
        ("too many", "BadRequest", "250 instance(s) is allowed per prediction. Actual: 251"),
        ("too long", "BadRequest", "the input token count is 1002 but the model supports up to 256"),
    ],
)
def test_errors(found: Any, case: str, kind: str, words: str) -> None:
    raised, message = found["errors"][case]
    assert raised == kind
    assert words in message
