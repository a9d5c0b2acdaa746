"""Binds arguments to google-cloud-aiplatform's own functions: {"Model.upload": {…}, …} as JSON, complaints come back.

A second word of a name is only for people. The upload is also built as the message that would be sent.
"""

import inspect
import json
import sys

from google.cloud import aiplatform
from google.cloud.aiplatform_v1.types import ModelContainerSpec

METHODS = ("Model.deploy", "Endpoint.predict")  # called on an object, which is their first argument


def complaint(name, arguments):
    path = name.split()[0]
    cls, _, function = path.partition(".")
    signature = inspect.signature(getattr(getattr(aiplatform, cls), function))
    try:
        signature.bind(*[None] * (path in METHODS), **arguments)
    except TypeError as error:
        return f"{name}: {error}"
    return None


given = json.loads(sys.argv[1])
upload = given["Model.upload"]
spec = ModelContainerSpec(
    image_uri=upload["serving_container_image_uri"],
    predict_route=upload["serving_container_predict_route"],
    health_route=upload["serving_container_health_route"],
    ports=[{"container_port": port} for port in upload["serving_container_ports"]],
    env=[{"name": k, "value": v} for k, v in (upload["serving_container_environment_variables"] or {}).items()],
)
wrong = [found for name, arguments in given.items() if (found := complaint(name, arguments))]
print(json.dumps({"wrong": wrong, "spec": json.loads(ModelContainerSpec.to_json(spec))}))
