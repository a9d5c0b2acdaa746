"""LangChain with FAISS and with Milvus Lite: vector_stores.py URL MODEL QUESTIONS FOLDER.

QUESTIONS is a file of {"sentences": [...], "questions": {question: sentence}}. Prints, for each store, the question
whose first answer was another sentence.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

from langchain_community.vectorstores import FAISS
from langchain_milvus import Milvus
from langchain_openai import OpenAIEmbeddings

url, model, path, folder = sys.argv[1:]
asked = json.loads(Path(path).read_text("utf-8"))
embeddings = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key="x", check_embedding_ctx_length=False)


def wrong(store: FAISS | Milvus) -> list[str]:
    return [
        question
        for question, sentence in asked["questions"].items()
        if store.similarity_search(question, k=3)[0].page_content != sentence
    ]


FAISS.from_texts(asked["sentences"], embeddings).save_local(f"{folder}/faiss")
faiss = FAISS.load_local(f"{folder}/faiss", embeddings, allow_dangerous_deserialization=True)
milvus = Milvus.from_texts(
    asked["sentences"],
    embeddings,
    connection_args={"uri": f"{folder}/milvus.db"},
    index_params={"index_type": "FLAT", "metric_type": "COSINE"},
)
found = {"FAISS": wrong(faiss), "Milvus Lite": wrong(milvus)}
versions = {"FAISS": version("faiss-cpu"), "Milvus Lite": version("milvus-lite")}
print(json.dumps({"wrong": found, "versions": versions}))
