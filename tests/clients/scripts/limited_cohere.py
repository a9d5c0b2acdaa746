"""cohere at a limit of six requests a minute: limited_cohere.py URL KEY MODEL."""

import json
import sys

import cohere
from cohere.core.api_error import ApiError

url, key, model = sys.argv[1:]
client = cohere.ClientV2(key, base_url=url)


def embed(**options: object) -> object:
    return client.embed(
        model=model, input_type="search_query", texts=["hello"], embedding_types=["float"], request_options=options
    )


answered = [embed(max_retries=2) for _ in range(7)]
try:
    embed(max_retries=0)
    refused = {}
except ApiError as error:
    refused = {"name": type(error).__name__, "status": error.status_code, "body": str(error.body)}
print(json.dumps({"answered": len(answered), "refused": refused}))
