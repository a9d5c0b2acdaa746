"""voyageai's client, reranking. Arguments: the server's URL, its key, a model, a query, documents as JSON."""

import json
import sys
from importlib.metadata import version

import voyageai

url, key, model, query = sys.argv[1:5]
documents = json.loads(sys.argv[5])
client = voyageai.Client(api_key=key, base_url=f"{url}/v1", max_retries=0)


def ranking(reply: object) -> list[list[float]]:
    return [[one.index, one.relevance_score] for one in reply.results]


best = client.rerank(query, documents, model, top_k=2)
try:
    client.rerank(query, [], model)
    refusal = "was not refused"
except voyageai.error.InvalidRequestError as error:
    refusal = str(error)
found = {
    "version": version("voyageai"),
    "whole": ranking(client.rerank(query, documents, model)),
    "best": ranking(best),
    "texts": [one.document for one in best.results],
    "tokens": best.total_tokens,
    "refusal": refusal,
}
print(json.dumps(found))
