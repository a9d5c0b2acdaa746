"""voyageai: voyage_python.py URL MODEL TEXTS."""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import voyageai

url, model, path = sys.argv[1:]
texts = json.loads(Path(path).read_text("utf-8"))
client = voyageai.Client(api_key="x", base_url=f"{url}/v1")
plain = client.embed(texts, model=model, input_type="document")
assert plain.total_tokens > len(texts)
floats = np.array(plain.embeddings)
int8 = np.array(client.embed(texts, model=model, output_dtype="int8").embeddings)
assert ((int8 * floats).sum(1) / np.linalg.norm(int8, axis=1) / np.linalg.norm(floats, axis=1)).min() > 0.999
packed = np.array(client.embed(texts, model=model, output_dtype="ubinary").embeddings, dtype=np.uint8)
assert (np.unpackbits(packed, axis=1) == (floats > 0)).all()
found = {"/v1/embeddings, Voyage's fields": floats.tolist()}
print(json.dumps({"version": version("voyageai"), "vectors": found}))
