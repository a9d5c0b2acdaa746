"""cohere's clients of both versions, reranking. Arguments: the server's URL, its key, a model, a query, documents."""

import json
import sys
from importlib.metadata import version

import cohere

url, key, model, query = sys.argv[1:5]
documents = json.loads(sys.argv[5])

client = cohere.ClientV2(api_key=key, base_url=url)
older = cohere.Client(api_key=key, base_url=url)


def ranking(reply: object) -> list[list[float]]:
    return [[one.index, one.relevance_score] for one in reply.results]


def refusal(**fields: object) -> dict[str, object]:
    try:
        client.rerank(**{"model": model, "query": query, "documents": documents, **fields})
    except cohere.core.ApiError as error:
        return {"kind": type(error).__name__, "status": error.status_code, "message": error.body["message"]}
    raise AssertionError("was not refused")


newer = client.rerank(model=model, query=query, documents=documents, top_n=2)
whole = older.rerank(model=model, query=query, documents=documents)
objects = [{"title": one, "year": "1900"} for one in documents]
fields = older.rerank(
    model=model, query=query, documents=objects, rank_fields=["title"], return_documents=True, max_chunks_per_doc=3
)
found = {
    "version": version("cohere"),
    "newer": ranking(newer),
    "search_units": newer.meta.billed_units.search_units,
    "api_version": newer.meta.api_version.version,
    "older": ranking(whole),
    "fields": ranking(fields),
    "texts": [one.document.text for one in fields.results],
    "empty": refusal(documents=[]),
    "too many": refusal(documents=["a"] * 1001),
    "unknown model": refusal(model="rerank-v9"),
}
print(json.dumps(found))
