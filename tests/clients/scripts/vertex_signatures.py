"""Binds arguments to google-cloud-aiplatform's own functions: {"Model.upload": {…}, …} as JSON → a list of complaints.

Each request is also built as the message that would be sent, of which the last line gives the container's part.
"""

import inspect
import json
import sys

from google.cloud import aiplatform
from google.cloud.aiplatform_v1.types import ModelContainerSpec

FUNCTIONS = {
    "Model.upload": aiplatform.Model.upload,
    "Endpoint.create": aiplatform.Endpoint.create,
    "Model.deploy": lambda **given: None,
    "Endpoint.predict": lambda **given: None,
}
FUNCTIONS["Model.deploy"].__signature__ = inspect.signature(aiplatform.Model.deploy).replace(
    parameters=list(inspect.signature(aiplatform.Model.deploy).parameters.values())[1:]
)
FUNCTIONS["Endpoint.predict"].__signature__ = inspect.signature(aiplatform.Endpoint.predict).replace(
    parameters=list(inspect.signature(aiplatform.Endpoint.predict).parameters.values())[1:]
)
given = json.loads(sys.argv[1])
wrong = []
for name, arguments in given.items():
    try:
        inspect.signature(FUNCTIONS[name]).bind(**arguments)
    except TypeError as error:
        wrong.append(f"{name}: {error}")
upload = given["Model.upload"]
spec = ModelContainerSpec(
    image_uri=upload["serving_container_image_uri"],
    predict_route=upload["serving_container_predict_route"],
    health_route=upload["serving_container_health_route"],
    ports=[{"container_port": port} for port in upload["serving_container_ports"]],
    env=[{"name": k, "value": v} for k, v in (upload["serving_container_environment_variables"] or {}).items()],
)
print(json.dumps({"wrong": wrong, "spec": json.loads(ModelContainerSpec.to_json(spec))}))
