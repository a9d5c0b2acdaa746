"""fastembed behind a FastAPI route, on a model of one's own. `python FILE FOLDER_WITH_MODEL_ONNX PORT`."""

import sys

import uvicorn
from fastapi import FastAPI
from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType
from pydantic import BaseModel

NAME = "ours/all-MiniLM-L6-v2"

app = FastAPI()
TextEmbedding.add_custom_model(
    model=NAME,
    pooling=PoolingType.MEAN,
    normalization=True,
    sources=ModelSource(hf=NAME),
    dim=384,
    model_file="model.onnx",
)
model = TextEmbedding(NAME, specific_model_path=sys.argv[1])


class Request(BaseModel):
    input: str | list[str]


@app.post("/v1/embeddings")
def embeddings(request: Request) -> dict:
    texts = [request.input] if isinstance(request.input, str) else request.input
    vectors = model.embed(texts)
    return {"data": [{"index": i, "embedding": vector.tolist()} for i, vector in enumerate(vectors)]}


@app.get("/health")
def health() -> dict:
    return {}


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
