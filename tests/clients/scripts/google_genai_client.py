"""google-genai by all of its routes. Arguments: URL, key, a model, a gemini-named one, texts as JSON."""

import asyncio
import json
import sys

from google import genai
from google.genai import errors, types
from google.oauth2.credentials import Credentials

url, key, model, gemini_model = sys.argv[1:5]
texts = json.loads(sys.argv[5])
http = types.HttpOptions(base_url=url)


def vectors(reply: types.EmbedContentResponse) -> list[list[float]]:
    return [one.values for one in reply.embeddings]


def refusal(client: genai.Client, wanted: str, count: int = 1, **config: object) -> dict[str, object]:
    try:
        client.models.embed_content(model=wanted, contents=["a"] * count, config=config or None)
    except errors.ClientError as error:
        return {"code": error.code, "status": error.status, "message": error.message}
    raise AssertionError("was not refused")


developer = genai.Client(api_key=key, http_options=http)
with_token = genai.Client(
    vertexai=True, project="p", location="us-central1", credentials=Credentials(token=key), http_options=http
)
with_key = genai.Client(vertexai=True, api_key=key, http_options=http)
stranger = genai.Client(api_key="wrong-key-0123456789", http_options=http)
beta = genai.Client(api_key=key, http_options=types.HttpOptions(base_url=url, api_version="v1beta"))
stable = genai.Client(
    vertexai=True,
    project="p",
    location="us-central1",
    credentials=Credentials(token=key),
    http_options=types.HttpOptions(base_url=url, api_version="v1"),
)

found: dict[str, object] = {"version": genai.__version__}
found["developer"] = vectors(developer.models.embed_content(model=model, contents=texts))
found["developer v1beta"] = vectors(beta.models.embed_content(model=model, contents=texts))
found["developer async"] = vectors(asyncio.run(developer.aio.models.embed_content(model=model, contents=texts)))
found["vertex token"] = vectors(with_token.models.embed_content(model=model, contents=texts))
found["vertex token v1"] = vectors(stable.models.embed_content(model=model, contents=texts))
found["vertex key"] = vectors(with_key.models.embed_content(model=model, contents=texts))
found["vertex batchEmbedContents"] = vectors(with_token.models.embed_content(model=gemini_model, contents=texts))
found["vertex embedContent"] = [
    vector
    for client in (with_token, with_key)
    for text in texts[:2]
    for vector in vectors(client.models.embed_content(model=gemini_model, contents=text))
]

counted = with_token.models.embed_content(model=model, contents=texts[:2], config={"auto_truncate": True})
found["statistics"] = [[one.statistics.token_count, one.statistics.truncated] for one in counted.embeddings]
long = with_token.models.embed_content(model=gemini_model, contents="word " * 1000, config={"auto_truncate": True})
found["truncated"] = [long.embeddings[0].statistics.truncated, long.embeddings[0].statistics.token_count]
config = {"task_type": "RETRIEVAL_DOCUMENT", "title": "Pets", "output_dimensionality": 384}
found["titled"] = [
    vectors(client.models.embed_content(model=name, contents="cats", config=config))[0]
    for client in (developer, with_token, with_key)
    for name in ((model,) if client is developer else (model, gemini_model))
]
found["listed"] = [one.name for one in beta.models.list()]
found["described"] = beta.models.get(model=model).name
found["publisher model"] = with_token.models.get(model=model).name
found["errors"] = {
    "unknown": refusal(developer, "no-such-model"),
    "unknown on vertex": refusal(with_token, "no-such-model"),
    "too many": refusal(developer, model, 101),
    "too many on vertex": refusal(with_token, model, 251),
    "dimensions": refusal(developer, model, output_dimensionality=100),
    "key": refusal(stranger, model),
}
print(json.dumps(found))
