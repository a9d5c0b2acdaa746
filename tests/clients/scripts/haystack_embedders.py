"""haystack-ai's embedders: haystack_embedders.py URL MODEL TEXTS."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

url, model, path = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))
options = {"model": model, "api_base_url": f"{url}/v1", "api_key": Secret.from_token("x"), "max_retries": 0}
one_by_one = OpenAITextEmbedder(**options)
documents = OpenAIDocumentEmbedder(**options, progress_bar=False)
found = {
    "/v1/embeddings, OpenAITextEmbedder": [one_by_one.run(text)["embedding"] for text in texts],
    "/v1/embeddings, OpenAIDocumentEmbedder": [
        document.embedding for document in documents.run([Document(content=text) for text in texts])["documents"]
    ],
}
print(json.dumps({"version": version("haystack-ai"), "vectors": found}))
