"""google-generativeai (retired, widely installed) over REST. Arguments: URL, key, a model, texts as JSON.

It speaks through protobuf: enums travel as numbers.
"""

import json
import sys

import google.generativeai as genai
from google.api_core import exceptions

url, key, model = sys.argv[1:4]
texts = json.loads(sys.argv[4])
genai.configure(api_key=key, transport="rest", client_options={"api_endpoint": url})
name = f"models/{model}"

found: dict[str, object] = {"version": genai.__version__}
found["batch"] = genai.embed_content(model=name, content=texts)["embedding"]
found["single"] = [genai.embed_content(model=name, content=text)["embedding"] for text in texts[:3]]
found["titled"] = [
    genai.embed_content(
        model=name, content="cats", task_type="retrieval_document", title="Pets", output_dimensionality=384
    )["embedding"]
]
found["query"] = genai.embed_content(model=name, content=["cats", "dogs"], task_type="retrieval_query")["embedding"]
found["listed"] = [one.name for one in genai.list_models()]
try:
    genai.embed_content(model="models/no-such-model", content="a")
except exceptions.NotFound as error:
    found["unknown"] = error.message
print(json.dumps(found))
