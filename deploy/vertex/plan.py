"""What is asked of Vertex AI to serve a model: gcloud's commands, or calls of google-cloud-aiplatform. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PORT = 8080
PREDICT_ROUTE, HEALTH_ROUTE = "/vertex/predict", "/vertex/health"
"""The server's own /predict and /health are Text Embeddings Inference's, and cannot be Vertex AI's as well."""

AGREED = frozenset({"host", "port", "admin_host", "admin_port", "predict_route", "health_route"})
"""Settings that AIP_* variables say, or that would hide the server from Vertex AI."""

_MARKS = "|;#~!@%&*+?"  # that part variables for gcloud where their values have commas
_TIMEOUT = 1800  # seconds until a replica must be healthy: a large checkpoint is fetched and compiled


@dataclass(frozen=True)
class Plan:
    """`image` has the model in it, or `artifact` (gs://…) is a bundle's or checkpoint's folder."""

    project: str
    region: str
    image: str
    name: str
    artifact: str | None = None
    machine: str = "n2-standard-4"
    accelerator: str | None = None
    accelerators: int = 1
    replicas: int = 1
    most_replicas: int = 4
    cpu_target: int = 70  # percent, above which replicas are added
    service_account: str | None = None
    settings: Mapping[str, str] = field(default_factory=dict)  # EMBEDSERVE_* variables

    @property
    def endpoint(self) -> str:
        """An id for it, always the same: Vertex AI allows up to ten digits, and nothing else."""
        return str(zlib.crc32(self.name.encode()))

    @property
    def request(self) -> dict[str, Any]:
        """One that shows that it works."""
        return {"instances": [{"content": "Hello, world", "task_type": "RETRIEVAL_QUERY"}]}


def gcloud(plan: Plan) -> list[list[str]]:
    """Upload, create, deploy, predict; the request of the last one lies in request.json."""
    where = [f"--project={plan.project}", f"--region={plan.region}"]
    upload = [
        *("gcloud", "ai", "models", "upload", *where),
        f"--model-id={plan.name}",
        f"--display-name={plan.name}",
        f"--container-image-uri={plan.image}",
        f"--container-ports={PORT}",
        f"--container-predict-route={PREDICT_ROUTE}",
        f"--container-health-route={HEALTH_ROUTE}",
        f"--container-deployment-timeout-seconds={_TIMEOUT}",
    ]
    if plan.artifact:
        upload.append(f"--artifact-uri={plan.artifact}")
    if plan.settings:
        upload.append(f"--container-env-vars={_dictionary(plan.settings)}")
    create = [
        "gcloud",
        "ai",
        "endpoints",
        "create",
        *where,
        f"--endpoint-id={plan.endpoint}",
        f"--display-name={plan.name}",
    ]
    deploy = [
        *("gcloud", "ai", "endpoints", "deploy-model", plan.endpoint, *where),
        f"--model={plan.name}",
        f"--display-name={plan.name}",
        f"--machine-type={plan.machine}",
        f"--min-replica-count={plan.replicas}",
        f"--max-replica-count={plan.most_replicas}",
        "--traffic-split=0=100",
    ]
    if plan.accelerator:
        deploy.append(f"--accelerator=type={plan.accelerator.lower().replace('_', '-')},count={plan.accelerators}")
    else:
        deploy.append(f"--autoscaling-metric-specs=cpu-usage={plan.cpu_target}")
    if plan.service_account:
        deploy.append(f"--service-account={plan.service_account}")
    predict = ["gcloud", "ai", "endpoints", "predict", plan.endpoint, *where, "--json-request=request.json"]
    return [upload, create, deploy, predict]


def _dictionary(values: Mapping[str, str]) -> str:
    """As gcloud reads it: parted by commas, or, where a value has one, by what is said between two carets."""
    pairs = [f"{name}={value}" for name, value in values.items()]
    if not any("," in pair for pair in pairs):
        return ",".join(pairs)
    mark = next(mark for mark in _MARKS if not any(mark in pair for pair in pairs))
    return f"^{mark}^{mark.join(pairs)}"


def upload_arguments(plan: Plan) -> dict[str, Any]:
    """Of aiplatform.Model.upload."""
    return {
        "display_name": plan.name,
        "model_id": plan.name,
        "serving_container_image_uri": plan.image,
        "artifact_uri": plan.artifact,
        "serving_container_ports": [PORT],
        "serving_container_predict_route": PREDICT_ROUTE,
        "serving_container_health_route": HEALTH_ROUTE,
        "serving_container_environment_variables": dict(plan.settings) or None,
        "serving_container_deployment_timeout": _TIMEOUT,
    }


def endpoint_arguments(plan: Plan) -> dict[str, Any]:
    """Of aiplatform.Endpoint.create."""
    return {"display_name": plan.name, "endpoint_id": plan.endpoint}


def deploy_arguments(plan: Plan) -> dict[str, Any]:
    """Of aiplatform.Model.deploy, beside the endpoint."""
    return {
        "deployed_model_display_name": plan.name,
        "machine_type": plan.machine,
        "accelerator_type": plan.accelerator,
        "accelerator_count": plan.accelerators if plan.accelerator else None,
        "min_replica_count": plan.replicas,
        "max_replica_count": plan.most_replicas,
        "autoscaling_target_cpu_utilization": None if plan.accelerator else plan.cpu_target,
        "traffic_percentage": 100,
        "service_account": plan.service_account,
    }


def request_text(plan: Plan) -> str:
    """Of request.json."""
    return json.dumps(plan.request)
