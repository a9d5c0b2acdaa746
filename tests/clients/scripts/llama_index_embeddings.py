"""llama-index-embeddings-openai-like: llama_index_embeddings.py URL MODEL TEXTS."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from llama_index.embeddings.openai_like import OpenAILikeEmbedding

url, model, path = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))
embedding = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key="x", max_retries=0)
found = {
    "/v1/embeddings, batches": embedding.get_text_embedding_batch(texts),
    "/v1/embeddings, queries": [embedding.get_query_embedding(text) for text in texts],
}
print(json.dumps({"version": version("llama-index-embeddings-openai-like"), "vectors": found}))
