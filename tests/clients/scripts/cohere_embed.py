"""cohere's clients of both versions. Arguments: the server's URL, its key, a model, texts as JSON."""

import asyncio
import json
import sys
from importlib.metadata import version

import cohere

url, key, model = sys.argv[1:4]
texts = json.loads(sys.argv[4])
NAMED = ["float", "int8", "uint8", "binary", "ubinary", "base64"]

client = cohere.ClientV2(api_key=key, base_url=url)
older = cohere.Client(api_key=key, base_url=url)


def plain(reply: object) -> dict[str, object]:
    embeddings = reply.embeddings
    return {name: getattr(embeddings, "float_" if name == "float" else name) for name in NAMED}


async def by_async() -> list[list[float]]:
    async with cohere.AsyncClientV2(api_key=key, base_url=url) as asynchronous:
        reply = await asynchronous.embed(
            model=model, texts=texts, input_type="search_document", embedding_types=["float"]
        )
    return reply.embeddings.float_


def refusal(**fields: object) -> dict[str, object]:
    try:
        (fields.pop("client", None) or client).embed(**{"model": model, "input_type": "search_query", **fields})
    except cohere.core.ApiError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "message": error.body["message"]}
    raise AssertionError("was not refused")


every = client.embed(model=model, texts=texts, input_type="search_document", embedding_types=NAMED)
inputs = [{"content": [{"type": "text", "text": text}]} for text in texts]
parts = client.embed(model=model, inputs=inputs, input_type="search_document", embedding_types=["float"])
query = client.embed(model=model, texts=texts[:1], input_type="search_query", embedding_types=["float"])
cut = client.embed(
    model=model, texts=["one two three four"], input_type="clustering", max_tokens=4, truncate="START", priority=2
)
many = [texts[i % len(texts)] for i in range(200)]  # the older client sends 96 at a time

found = {
    "version": version("cohere"),
    "all": plain(every),
    "texts": every.texts,
    "api_version": every.meta.api_version.version,
    "input_tokens": every.meta.billed_units.input_tokens,
    "response_type": every.response_type,
    "inputs": parts.embeddings.float_,
    "query": query.embeddings.float_,
    "cut": cut.embeddings.float_,
    "async": asyncio.run(by_async()),
    "older": older.embed(model=model, texts=texts, input_type="search_document").embeddings,
    "older many": older.embed(model=model, texts=many, input_type="search_document").embeddings,
    "older typed": older.embed(
        model=model, texts=texts, input_type="search_document", embedding_types=["float"]
    ).embeddings.float_,
    "too many": refusal(texts=["a"] * 97),
    "image": refusal(images=["data:image/png;base64,AAAA"], input_type="image"),
    "unknown model": refusal(texts=["a"], model="embed-v9"),
    "wrong key": refusal(texts=["a"], client=cohere.ClientV2(api_key="wrong-key-0123456789", base_url=url)),
    "too long": refusal(texts=["word " * 1000], truncate="NONE"),
}
print(json.dumps(found))
