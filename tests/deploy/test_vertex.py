"""deploy/vertex: what would be asked of Google, and that the container keeps its side with just that."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploy.vertex.__main__ import main
from deploy.vertex.plan import HEALTH_ROUTE, PORT, Plan, deploy_arguments, endpoint_arguments, gcloud, upload_arguments
from tests.clients.test_vertexai_sdk import AIPLATFORM
from tests.conftest import Golden, StartServer
from tests.e2e.process import clean_environment, vertex_vectors

PLAN = Plan(
    project="p",
    region="us-central1",
    image="us-docker.pkg.dev/p/r/embedserve:0.1.0",
    name="mine",
    artifact="gs://bucket/my-bundle",
    accelerator="NVIDIA_L4",
    service_account="runner@p.iam.gserviceaccount.com",
    settings={"EMBEDSERVE_LONG_INPUT": "truncate", "EMBEDSERVE_MODEL_ALIASES": "a,b"},
)
REQUIRED = ["--project", "p", "--region", "us-central1", "--image", "i"]
# Of Google's reference (cloud.google.com/sdk/gcloud/reference/ai), as far as these commands use them.
FLAGS = {
    "models upload": {
        *("model-id", "display-name", "container-image-uri", "container-ports", "container-predict-route"),
        *("container-health-route", "container-deployment-timeout-seconds", "artifact-uri", "container-env-vars"),
    },
    "endpoints create": {"endpoint-id", "display-name"},
    "endpoints deploy-model": {
        *("model", "display-name", "machine-type", "min-replica-count", "max-replica-count", "traffic-split"),
        *("accelerator", "autoscaling-metric-specs", "service-account"),
    },
    "endpoints predict": {"json-request"},
}


@pytest.mark.parametrize("plan", [PLAN, Plan("p", "r", "i", "mine")], ids=["all of it", "the least"])
def test_gcloud_has_every_flag(plan: Plan) -> None:
    for command, known in zip(gcloud(plan), FLAGS.values(), strict=True):
        flags = {word.removeprefix("--").partition("=")[0] for word in command if word.startswith("--")}
        assert flags <= known | {"project", "region"}
    assert [" ".join(command[2:4]) for command in gcloud(plan)] == list(FLAGS)


def test_ids_are_such_as_vertex_ai_allows() -> None:
    """By the words of google-cloud-aiplatform's Endpoint.create and Model.upload."""
    assert re.fullmatch("[0-9]{1,10}", endpoint_arguments(PLAN)["endpoint_id"])
    assert re.fullmatch("[a-z_][a-z0-9_-]{0,62}", upload_arguments(PLAN)["model_id"])


def test_a_value_with_a_comma_is_one_value() -> None:
    [variables] = [word for word in gcloud(PLAN)[0] if word.startswith("--container-env-vars")]
    assert variables.endswith("=^|^EMBEDSERVE_LONG_INPUT=truncate|EMBEDSERVE_MODEL_ALIASES=a,b")


def test_values_with_commas_and_bars_are_parted_by_what_they_have_not() -> None:
    settings = {"EMBEDSERVE_CORS_ORIGINS": "https://a,https://b", "EMBEDSERVE_MODEL_ALIASES": "a|b"}
    [variables] = [word for word in gcloud(replace(PLAN, settings=settings))[0] if "env-vars" in word]
    _, mark, pairs = variables.partition("=")[2].split("^")
    assert dict(pair.split("=", 1) for pair in pairs.split(mark)) == settings


def test_a_dry_run_prints_what_a_shell_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    own = ["--artifact", "gs://b/f", "--set", "EMBEDSERVE_LONG_INPUT=reject", "--name", "mine"]
    assert main([*REQUIRED, *own, "--dry-run"]) == 0
    printed = capsys.readouterr().out.replace("\\\n", " ").splitlines()
    plan = Plan("p", "us-central1", "i", "mine", "gs://b/f", settings={"EMBEDSERVE_LONG_INPUT": "reject"})
    commands = [shlex.split(line) for line in printed]
    expected = gcloud(plan)
    assert [sorted(one) for one in commands if one[0] == "gcloud"] == [sorted(one) for one in expected]
    [echo] = [one for one in commands if one[0] == "echo"]
    assert json.loads(echo[1]) == plan.request
    assert echo[2:] == [">", "request.json"]


def test_help_and_mistakes(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong, words in (
        (["--artifact", "s3://b/f"], "gs://BUCKET/FOLDER"),
        (["--artifact", "gs://"], "gs://BUCKET/FOLDER"),
        (["--replicas", "0"], "at least 1"),
        (["--replicas", "4", "--most-replicas", "1"], "raise it"),
        (["--cpu-target", "700"], "from 1 to 100"),
        (["--set", "EMBEDSERVE_LONG_IMPUT=x"], "EMBEDSERVE_LONG_IMPUT is no setting"),
        (["--set", "EMBEDSERVE_LONG_INPUT=nonsense"], "truncate"),
        (["--set", "EMBEDSERVE_PORT=80"], "agreed with Vertex AI"),
        (["--set", "EMBEDSERVE_HEALTH_ROUTE=/a"], "agreed with Vertex AI"),
        (["--accelerator", "L4"], "such as NVIDIA_L4"),
        (["--accelerator", "NVIDIA_L4"], "name a --machine"),
        (["--name", "My Model"], "small letters"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([*REQUIRED, *wrong, "--dry-run"])
        assert ended.value.code == 2
        assert words in capsys.readouterr().err
    command = [sys.executable, "-m", "deploy.vertex", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment(), check=True)
    assert "--dry-run" in done.stdout


def test_without_googles_package_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(REQUIRED) == 1
    assert "pip install google-cloud-aiplatform" in capsys.readouterr().err


def container_variables(upload: dict[str, Any]) -> dict[str, str]:
    """What Vertex AI sets for a container that was uploaded so, without an artifact."""
    return {
        "AIP_HTTP_PORT": str(upload["serving_container_ports"][0]),
        "AIP_PREDICT_ROUTE": upload["serving_container_predict_route"],
        "AIP_HEALTH_ROUTE": upload["serving_container_health_route"],
        "AIP_STORAGE_URI": "",
        **(upload["serving_container_environment_variables"] or {}),
    }


def test_the_container_keeps_the_contract(start_server: StartServer, golden: Golden) -> None:
    variables = container_variables(upload_arguments(PLAN))
    assert variables["AIP_HTTP_PORT"] == str(PORT)
    server = start_server(env={**variables, "EMBEDSERVE_HOST": "127.0.0.1"})
    assert server.http.get(HEALTH_ROUTE).status_code == 200
    body = server.post(variables["AIP_PREDICT_ROUTE"], {"instances": [{"content": golden.texts[0]}]}).json()
    assert np.abs(vertex_vectors(body) - golden.vectors[:1]).max() <= 1e-4
    assert server.post(variables["AIP_PREDICT_ROUTE"], PLAN.request).status_code == 200


@pytest.mark.heavy
def test_googles_package_takes_every_argument() -> None:
    calls = {
        "Model.upload": upload_arguments(PLAN),
        "Endpoint.create": endpoint_arguments(PLAN),
        "Model.deploy": {"endpoint": "e", **deploy_arguments(PLAN)},
        "Endpoint.predict": PLAN.request,
    }
    broken = {"Model.deploy misspelt": {"endpoint": "e", "machine": "m"}}
    found = AIPLATFORM.run("vertex_signatures.py", json.dumps(calls | broken))
    assert found["wrong"] == ["Model.deploy misspelt: got an unexpected keyword argument 'machine'"]
    assert found["spec"]["healthRoute"] == HEALTH_ROUTE
    assert found["spec"]["ports"][0]["containerPort"] == PORT
