"""huggingface_hub's InferenceClient, and tei-client. Arguments: the server's URL, its key, texts as JSON."""

import asyncio
import json
import sys
from importlib.metadata import version

from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import HfHubHTTPError
from tei_client import HttpClient

url, key = sys.argv[1:3]
texts = json.loads(sys.argv[3])
client = InferenceClient(model=url, token=key)
tei = HttpClient(url, headers={"authorization": f"Bearer {key}"})


async def by_async() -> list[list[float]]:
    async with AsyncInferenceClient(model=url, token=key) as asynchronous:
        return (await asynchronous.feature_extraction(texts)).tolist()


def refusal(**fields: object) -> dict[str, object]:
    try:
        client.feature_extraction(**{"text": "a", **fields})
    except HfHubHTTPError as error:
        return {"status": error.response.status_code, **error.response.json()}
    raise AssertionError("was not refused")


(tokens,) = tei.tokenize(texts[0])
info = tei.info()
found = {
    "version": version("huggingface_hub"),
    "one": client.feature_extraction(texts[0]).tolist(),
    "many": client.feature_extraction(texts).tolist(),
    "options": client.feature_extraction(
        texts, normalize=True, truncate=True, truncation_direction="left", dimensions=384, encoding_format="base64"
    ).tolist(),
    "async": asyncio.run(by_async()),
    "path": InferenceClient(model=f"{url}/embed", token=key).feature_extraction(texts).tolist(),
    "similarity": client.sentence_similarity(texts[0], other_sentences=texts[1:]),
    "too long": refusal(text="word " * 1000, truncate=False),
    "unknown prompt": refusal(prompt_name="nope"),
    "tei": {
        "version": version("tei-client"),
        "health": tei.health(),
        "model_id": info.server_model_id,
        "pooling": info.server_model_metadata.pooling,
        "max_input_length": info.max_input_length,
        "prompt_names": tei.prompt_names(),
        "embed": tei.embed(texts, truncate=True),
        "ids": tei.embed([tokens.get_ids()]),
        "async": asyncio.run(tei.async_embed(texts, truncate=True)),
        "tokens": len(tokens.tokens),
        "decode": tei.decode(tokens.get_ids()),
    },
}
print(json.dumps(found))
