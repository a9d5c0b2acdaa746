"""google-cloud-aiplatform over REST. Arguments: URL, key, a model, one with a version, texts as JSON."""

import json
import sys
import warnings

import vertexai
from google.api_core import exceptions
from google.cloud import aiplatform
from google.cloud.aiplatform_v1beta1 import PredictionServiceClient
from google.oauth2.credentials import Credentials
from vertexai.language_models import TextEmbeddingInput, TextEmbeddingModel

warnings.simplefilter("ignore")
url, key, model, versioned = sys.argv[1:5]
texts = json.loads(sys.argv[5])
vertexai.init(
    project="p",
    location="us-central1",
    api_transport="rest",
    api_endpoint=url,
    credentials=Credentials(token=key),
)
found: dict[str, object] = {"version": aiplatform.__version__}

embedder = TextEmbeddingModel.from_pretrained(model)
replies = embedder.get_embeddings(texts)
found["TextEmbeddingModel"] = [one.values for one in replies]
found["statistics"] = [[one.statistics.token_count, one.statistics.truncated] for one in replies[:2]]
found["TextEmbeddingModel@version"] = [
    one.values for one in TextEmbeddingModel.from_pretrained(versioned).get_embeddings(texts)
]
titled = TextEmbeddingInput("cats", task_type="RETRIEVAL_DOCUMENT", title="Pets")
found["titled"] = [one.values for one in embedder.get_embeddings([titled], output_dimensionality=384)]
(long,) = embedder.get_embeddings(["word " * 1000])
found["truncated"] = [long.statistics.truncated, long.statistics.token_count]

endpoint = aiplatform.Endpoint("1234567890")
instances = [{"content": text} for text in texts]
reply = endpoint.predict(instances=instances, parameters={"autoTruncate": False, "outputDimensionality": 384})
found["Endpoint.predict"] = [one["embeddings"]["values"] for one in reply.predictions]
found["metadata"] = reply.metadata

resource = f"projects/p/locations/us-central1/publishers/google/models/{model}"
low_level = PredictionServiceClient(
    credentials=Credentials(token=key), transport="rest", client_options={"api_endpoint": url}
)
embedded = low_level.embed_content(
    {
        "model": resource,
        "content": {"parts": [{"text": "cats"}]},
        "embed_content_config": {"task_type": "RETRIEVAL_DOCUMENT", "title": "Pets", "output_dimensionality": 384},
    }
)
found["embedContent"] = [list(embedded.embedding.values)]
found["embedContent tokens"] = embedded.usage_metadata.prompt_token_count


def refusal(work: object) -> list[object]:
    try:
        work()
    except exceptions.GoogleAPICallError as error:
        return [type(error).__name__, error.message]
    raise AssertionError("was not refused")


found["errors"] = {
    "unknown": refusal(lambda: TextEmbeddingModel.from_pretrained("no-such-model")),
    "too many": refusal(lambda: endpoint.predict(instances=[{"content": "a"}] * 251)),
    "too long": refusal(
        lambda: endpoint.predict(instances=[{"content": "word " * 1000}], parameters={"autoTruncate": False})
    ),
}
print(json.dumps(found))
