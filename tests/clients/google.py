"""What the tests of Google's clients have in common."""

from __future__ import annotations

import json

from tests.conftest import Golden, StartServer
from tests.e2e.process import Server, Vectors

KEY = "google-key-0123456789"
MODEL = "text-embedding-005"
# google-genai and the AI SDK choose the method by the name: these go to :embedContent and :batchEmbedContents.
GEMINI_MODEL = "gemini-embedding-001"
ALIASES = f"{MODEL},{GEMINI_MODEL},gemini-embedding-2"


def google_server(launch: StartServer) -> Server:
    """Under names that Google's clients know, with a key."""
    return launch("--model-aliases", ALIASES, env={"EMBEDSERVE_API_KEYS": KEY})


def without_empty(golden: Golden) -> tuple[str, Vectors]:
    """Texts as JSON, and their vectors; Google's Python clients leave empty texts out, or refuse them."""
    kept = [i for i, text in enumerate(golden.texts) if text]
    return json.dumps([golden.texts[i] for i in kept]), golden.vectors[kept]
