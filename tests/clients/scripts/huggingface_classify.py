"""huggingface_hub's InferenceClient, classifying. Arguments: the server's URL, its key, a text."""

import json
import sys
from importlib.metadata import version

from huggingface_hub import InferenceClient

url, key, text = sys.argv[1:4]
client = InferenceClient(base_url=url, api_key=key)


def labels(**options: object) -> list[list[object]]:
    return [[one.label, one.score] for one in client.text_classification(text, **options)]


found = {
    "version": version("huggingface_hub"),
    "usual": labels(),
    "best": labels(top_k=1),
    "sigmoid": labels(function_to_apply="sigmoid"),
}
print(json.dumps(found))
