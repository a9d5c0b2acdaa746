"""langchain-openai: langchain_embeddings.py URL MODEL TEXTS; $TIKTOKEN_CACHE_DIR holds cl100k_base."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings

url, model, path = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))
tokens = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key="x", max_retries=0)
strings = OpenAIEmbeddings(
    model=model, base_url=f"{url}/v1", api_key="x", max_retries=0, check_embedding_ctx_length=False
)
azure = AzureOpenAIEmbeddings(
    azure_endpoint=url, azure_deployment=model, api_version="2024-10-21", api_key="x", max_retries=0
)
found = {
    "/v1/embeddings, token arrays": tokens.embed_documents(texts),
    "/v1/embeddings, texts": strings.embed_documents(texts),
    "/v1/embeddings, queries": [strings.embed_query(text) for text in texts],
    "/openai/deployments/…, token arrays": azure.embed_documents(texts),
}
print(json.dumps({"version": version("langchain-openai"), "vectors": found}))
