"""Replies that are written in several turns of the event loop, byte for byte what they are in one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from service.api import cohere, gemini, kserve, openai, tei, vertex, wire
from service.api.auth import Keys
from service.api.http import Call, Reply, Service
from service.registry import Registry
from service.settings import Settings
from tests.conftest import MakeBundle

TEXTS = [f"text number {i}" for i in range(20)]
LONG = ["one two three four five " * 20, "six"]
CHUNKS = {"chunking": {"max_tokens": 20}, "return_chunks": True}
CONTENTS = [{"content": {"parts": [{"text": text}]}} for text in TEXTS]
PARTS = CHUNKS | {"outputDimensionality": 64}
TENSOR = {"name": "text", "datatype": "BYTES", "shape": [20], "data": TEXTS}
FEW = 1000  # numbers a turn: two vectors and a half
Handler = Callable[[Call], Awaitable[Reply]]


@pytest.fixture(scope="module")
def matryoshka(make_bundle: MakeBundle) -> Path:
    return make_bundle(matryoshka_dimensions=[64])


@pytest.mark.parametrize(
    ("handler", "body", "turns"),
    [
        (openai.create_embeddings, {"input": TEXTS}, 8),
        (openai.create_embeddings, {"input": TEXTS, "encoding_format": "base64"}, 8),
        (openai.create_embeddings, {"input": TEXTS, "output_dtype": "int8"}, 8),
        (openai.create_embeddings, {"input": LONG, **CHUNKS}, 2),
        (cohere.embed_v2, {"texts": TEXTS, "embedding_types": ["float", "int8", "base64", "ubinary"]}, 32),
        (cohere.embed_v1, {"texts": TEXTS}, 8),
        (cohere.embed_v1, {"texts": LONG, **CHUNKS}, 2),
        (tei.embed, {"inputs": TEXTS}, 8),
        (kserve.predict, {"instances": TEXTS}, 8),
        (kserve.infer, {"inputs": [TENSOR]}, 8),
        (vertex.predict_default, {"instances": [{"content": text} for text in TEXTS]}, 8),
        (vertex.predict_default, {"instances": [{"content": text} for text in LONG], "parameters": CHUNKS}, 2),
        (gemini.batch_embed_contents, {"requests": [*CONTENTS, CONTENTS[0] | PARTS]}, 8),
    ],
)
def test_large_replies_are_what_they_would_be_in_one_turn(
    matryoshka: Path, monkeypatch: pytest.MonkeyPatch, handler: Handler, body: dict[str, Any], turns: int
) -> None:
    """Otherwise an answer of a few megabytes keeps everybody waiting, whoever asks for liveness too."""

    async def answered() -> tuple[Any, Any, int]:
        settings = Settings(model=str(matryoshka), served_model_name="mine")
        registry = Registry(settings)
        await registry.start([matryoshka])
        service = Service(registry, settings, Keys([]))
        usual = await _answer(service, handler, body)
        yielded = 0
        sleep = asyncio.sleep

        async def counted(seconds: float) -> None:
            nonlocal yielded
            yielded += 1
            await sleep(seconds)

        monkeypatch.setattr(wire, "_NUMBERS_A_TURN", FEW)
        monkeypatch.setattr(asyncio, "sleep", counted)
        in_turns = await _answer(service, handler, body)
        monkeypatch.undo()
        await registry.close()
        return usual, in_turns, yielded

    usual, in_turns, yielded = asyncio.run(answered())
    assert in_turns == usual
    assert yielded >= turns


async def _answer(service: Service, handler: Handler, body: dict[str, Any]) -> bytes:
    """Without the id that Cohere's replies have."""
    deadline = asyncio.get_running_loop().time() + 60
    call = Call(service, "/", "POST", "id", {"model": "mine"}, {}, {}, time.perf_counter(), deadline)
    call.body = json.dumps(body).encode()
    reply = await handler(call)
    assert reply.status == 200
    whole = b"".join([reply.body, *reply.more])
    if b'"id":' not in whole:
        return whole
    found = whole.partition(b'"id":"')
    return found[0] + found[2].partition(b'"')[2]
