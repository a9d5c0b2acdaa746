"""Makes a folder of sentence-transformers' StaticEmbedding, and the vectors it gives for texts.

Runs as a script in the reference's environment. Arguments: a JSON file {"texts": [...]}, a tokenizer.json, and a folder
to write: FOLDER/static/ and FOLDER/static.npy, (texts, dimensions) float32;
FOLDER/static.query.npy are those with the prompt "query".
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np


def main() -> None:
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found, unused-ignore]
    from sentence_transformers.models import (  # type: ignore[import-not-found, unused-ignore]
        Dense,
        Normalize,
        StaticEmbedding,
    )
    from tokenizers import Tokenizer

    texts = json.loads(Path(sys.argv[1]).read_text("utf-8"))["texts"]
    tokenizer, folder = Tokenizer.from_file(sys.argv[2]), Path(sys.argv[3])
    tokenizer.no_truncation()
    rows = np.random.default_rng(7).normal(0, 1, (tokenizer.get_vocab_size(), 24)).astype(np.float32)
    modules = [StaticEmbedding(tokenizer, embedding_weights=rows), Dense(24, 16), Normalize()]
    prompts = {"query": "query: ", "document": ""}
    SentenceTransformer(modules=modules, prompts=prompts, device="cpu").save(str(folder / "static"))
    own = SentenceTransformer(str(folder / "static"), device="cpu")
    np.save(folder / "static.npy", own.encode(texts))
    np.save(folder / "static.query.npy", own.encode(texts, prompt_name="query"))
    print(json.dumps({name: version(name) for name in ("torch", "sentence-transformers")}))


if __name__ == "__main__":
    main()
