"""openai and its Azure client: openai_python.py URL MODEL TEXTS."""

import json
import sys
from pathlib import Path

import openai

url, model, path = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))
plain = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
azure = openai.AzureOpenAI(azure_endpoint=url, api_version="2024-10-21", api_key="x", max_retries=0)


def vectors(client: openai.OpenAI, **options: object) -> list[list[float]]:
    return [one.embedding for one in client.embeddings.create(model=model, input=texts, **options).data]


assert plain.models.retrieve(f"sentence-transformers/{model}").id == model
assert [one.id for one in azure.models.list().data] == [model]
found = {
    "/v1/embeddings": vectors(plain),
    "/v1/embeddings, float": vectors(plain, encoding_format="float"),
    "/openai/deployments/…": vectors(azure),
}
print(json.dumps({"version": openai.__version__, "vectors": found}))
